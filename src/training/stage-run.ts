/** One stage under way: its weights and sessions, and what can be done with them, each in units. */
import { GradientSum } from './gradient-sum.ts'
import { startAdamW } from './adamw.ts'
import {
  checkpointName,
  pruneCheckpoints,
  readTrainingState,
  writeCheckpoint,
  type CheckpointState,
  type TrainedComponents,
  type TrainingState,
} from './checkpoint.ts'
import type { StageData } from './data/stage-data.ts'
import { TrainingError } from './errors.ts'
import { heldOutLoss, largestChangePass } from './held-out.ts'
import type { TrainingHost } from './host.ts'
import type { StageReport } from './job.ts'
import { afterGoodStep, afterOverflow, startLossScale, type LossScaleState } from './loss-scale.ts'
import { microBatchSize } from './micro-batch-size.ts'
import { openMicroStepper, type MicroStepper } from './micro-step.ts'
import { optimise } from './optimise.ts'
import { PeerGradients } from './peer-gradients.ts'
import { Progress, type DeviceClock } from './progress.ts'
import { sampleStage } from './stage-samples.ts'
import type { StageInputs } from './stage-inputs.ts'
import { zerosLike, type Tensors } from './tensors.ts'
import { each, paced, unlessAborted, waitFor, type Units } from './units.ts'

export class StageRun {
  readonly #inputs: StageInputs
  readonly #host: TrainingHost
  readonly #data: StageData
  readonly #stepper: MicroStepper
  readonly #state: TrainingState
  readonly #gradients: Tensors
  /** Where a step has more than one micro-batch. */
  readonly #sum: GradientSum | undefined
  /** Where there are other devices, and micro-batches for them. */
  readonly #peers: PeerGradients | undefined
  readonly #inherited: TrainedComponents
  readonly #progress: Progress
  #lossScale: LossScaleState | undefined
  #lossBefore: number | undefined
  #step: number
  #savedStep: number
  #loss = 0

  private constructor(
    inputs: StageInputs,
    host: TrainingHost,
    opened: Pick<Opened, 'data' | 'stepper' | 'state' | 'gradients' | 'clock'>,
    inherited: TrainedComponents,
    from: CheckpointState | undefined,
  ) {
    this.#inputs = inputs
    this.#host = host
    this.#data = opened.data
    this.#stepper = opened.stepper
    this.#state = opened.state
    this.#gradients = opened.gradients
    this.#sum = opened.data.microBatchesPerStep > 1 ? new GradientSum(opened.gradients) : undefined
    this.#peers = host.peers && this.#sum ? new PeerGradients(host.peers, inputs) : undefined
    this.#inherited = inherited
    this.#progress = new Progress(inputs.job, inputs.index, opened.clock, from?.deviceMs ?? 0)
    const isScaled = inputs.stage.precision === 'float16'
    this.#lossScale = isScaled ? (from?.lossScale ?? startLossScale) : undefined
    this.#lossBefore = from?.lossBefore
    this.#step = from?.step ?? 0
    // Before the first one there is nothing that the stage before has not left.
    this.#savedStep = from?.step ?? 0
  }

  /**
   * Encodes what the caches lack, reads the weights, and finds out how large micro-batches may be.
   * @param from the checkpoint to go on from
   * @returns undefined when the run is to pause before anything is trained
   */
  static async *open(
    inputs: StageInputs,
    host: TrainingHost,
    clock: DeviceClock,
    {
      inherited,
      from,
    }: { readonly inherited: TrainedComponents; readonly from: CheckpointState | undefined },
  ): Units<StageRun | undefined> {
    const { job, index, backbone, encoders } = inputs
    try {
      for await (const { done, of } of inputs.data.prepare()) {
        host.tell({ type: 'preparing', stage: index, done, of })
        if (host.pause.aborted) return undefined
        yield { kind: 'prepare' }
      }
    } finally {
      await encoders.close()
    }
    const state = from
      ? yield* waitFor(readTrainingState(job.folder, from, backbone.trained))
      : startState(yield* waitFor(backbone.initial()))
    yield { kind: 'prepare' }
    const gradients = zerosLike(state.weights)
    const stepper = await openMicroStepper(backbone, host)
    try {
      yield { kind: 'prepare' }
      const choosing = microBatchSize(inputs, stepper, { weights: state.weights, gradients }, host)
      const rows = yield* unlessAborted(host.pause, choosing)
      if (rows === undefined) {
        await stepper.close()
        return undefined
      }
      const data = inputs.data.withRows(rows)
      if (inputs.stage.recompute === 'blocks' && backbone.step.kind === 'whole')
        host.tell({
          type: 'note',
          message: `stage ${index + 1}: only PixArt-α is trained block by block; this is not`,
        })
      host.tell({ type: 'stage_started', stage: index, kind: inputs.stage.kind, microBatch: rows })
      return new StageRun(inputs, host, { data, stepper, state, gradients, clock }, inherited, from)
    } catch (error) {
      await stepper.close()
      throw error
    }
  }

  get step(): number {
    return this.#step
  }

  get microBatches(): number {
    return this.#data.microBatchesPerStep
  }

  /** By the weights that the stage begins with, once; given up when the run is to pause. */
  async *evaluateBefore(): Units {
    if (this.#step === 0) this.#lossBefore ??= yield* unlessAborted(this.#host.pause, this.#evaluate())
  }

  /** What is computed of a step before this is dropped. */
  async *beginStep(): Units {
    this.#sum?.clear()
    this.#loss = 0
    this.#progress.beginStep()
    const from = { weights: this.#state.weights, lossScale: this.#scale }
    if (this.#peers) yield* this.#peers.offer(this.#step, this.microBatches, from)
  }

  /** Adds a micro-batch's gradients to those of the ones before it. */
  async *microStep(microBatch: number): Units {
    const delivered = this.#peers && (yield* this.#peers.delivered(microBatch, this.#gradients))
    const loss = delivered ?? (yield* this.#compute(microBatch))
    this.#loss += loss / this.microBatches
    if (this.#sum) yield* paced('update', this.#sum.adding(this.#gradients, 1))
    yield { kind: 'micro-step' }
  }

  /**
   * Takes the optimiser's step with the gradients' sum. Where float16 has overflowed, nothing is learned from it.
   * @throws {TrainingError} when the loss is not finite for another reason
   */
  async *update(): Units {
    const gradients = this.#sum?.gradients ?? this.#gradients
    const weight = (this.#sum?.weight ?? 1) * this.#scale
    const sum = { gradients, weight, loss: this.#loss }
    const { stage, backbone } = this.#inputs
    const isTextEncoder = (key: string): boolean => backbone.trained.get(key)?.component === 'text_encoder'
    const measured = yield* optimise(this.#state, sum, { stage, isTextEncoder }, this.#step)
    if (measured) this.#lossScale &&= afterGoodStep(this.#lossScale)
    else this.#shrinkScale()
    this.#step += 1
    yield { kind: 'update' }
    if (measured) this.#host.tell(this.#progress.stepReport(this.#step, measured))
  }

  #shrinkScale(): void {
    this.#lossScale &&= afterOverflow(this.#lossScale)
    const where = `stage ${this.#inputs.index + 1}, step ${this.#step + 1}`
    if (!this.#lossScale)
      throw new TrainingError(
        `${where}: non-finite loss or gradients (the loss is ${this.#loss}); a lower learning rate or a tighter clip may help`,
      )
    const message = `${where}: float16 overflowed; nothing was learned from it, and the loss is scaled by ${this.#lossScale.scale} from now on`
    this.#host.tell({ type: 'note', message })
  }

  async *sample(): Units {
    yield* sampleStage(this.#inputs, this.#host, this.#state.average, this.#step)
  }

  /** Writes a checkpoint unless this very step has one, or nothing was trained yet. */
  async *save(): Units {
    if (this.#savedStep !== this.#step) yield* this.#save(this.#inputs.backbone.becomes, undefined)
  }

  /** Judges what was learned and writes the stage's last checkpoint. @returns what has been trained so far */
  async *finish(): Units<TrainedComponents> {
    const { backbone, index, stage } = this.#inputs
    const lossAfter = yield* this.#evaluate()
    const becomes = backbone.finish
      ? yield* each('evaluate', backbone.finish(this.#state.average, this.#pictures(), this.#host))
      : backbone.becomes
    const before = yield* waitFor(backbone.initial())
    const largestChange = yield* paced('update', largestChangePass(before, this.#state.average))
    const report: StageReport = {
      type: 'stage_finished',
      stage: index,
      kind: stage.kind,
      steps: stage.steps,
      pictures: this.#data.pictures,
      heldOut:
        this.#lossBefore === undefined || lossAfter === undefined
          ? undefined
          : { lossBefore: this.#lossBefore, lossAfter, pictures: this.#data.heldOutPictures },
      largestChange,
      deviceMs: this.#progress.deviceMs,
    }
    if (this.#step % this.#inputs.job.samples.every !== 0) yield* this.sample()
    const components = yield* this.#save(becomes, report)
    this.#host.tell(report)
    return components
  }

  async close(): Promise<void> {
    await this.#peers?.close()
    await this.#stepper.close()
    await this.#inputs.encoders.close()
  }

  get #scale(): number {
    return this.#lossScale?.scale ?? 1
  }

  async *#compute(microBatch: number): Units<number> {
    const batch = await this.#data.microBatch(this.#step, microBatch)
    const { loss } = yield* each(
      'micro-step',
      this.#stepper.run(batch, {
        weights: this.#state.weights,
        gradients: this.#gradients,
        lossScale: this.#scale,
      }),
    )
    return loss
  }

  async *#evaluate(): Units<number | undefined> {
    return yield* each(
      'evaluate',
      heldOutLoss(this.#inputs.backbone, this.#data, this.#state.average, this.#host),
    )
  }

  async *#save(
    becomes: StageInputs['backbone']['becomes'],
    report: StageReport | undefined,
  ): Units<TrainedComponents> {
    const { job, index, backbone } = this.#inputs
    const checkpoint = checkpointName(index, this.#step)
    const components: TrainedComponents = {
      ...this.#inherited,
      ...Object.fromEntries(Object.entries(becomes).map(([name, now]) => [name, { ...now, checkpoint }])),
    }
    const state: CheckpointState = {
      version: 1,
      stage: index,
      step: this.#step,
      updates: this.#state.optimiser.steps,
      lossScale: this.#lossScale,
      lossBefore: this.#lossBefore,
      deviceMs: this.#progress.deviceMs,
      report,
      inherited: this.#inherited,
      components,
    }
    yield* waitFor(writeCheckpoint(job.folder, state, backbone.trained, this.#state))
    this.#savedStep = this.#step
    this.#host.tell({
      type: 'checkpoint',
      stage: index,
      step: this.#step,
      folder: `checkpoints/${checkpoint}`,
    })
    const ends = job.stages.map(({ steps }, number) => checkpointName(number, steps))
    await pruneCheckpoints(job.folder, new Set(ends), job.keepCheckpoints)
    return components
  }

  async *#pictures(): ReturnType<StageData['heldOut']> {
    for (let step = 0; step < this.#inputs.stage.steps; step++) {
      for (let index = 0; index < this.microBatches; index++) yield await this.#data.microBatch(step, index)
    }
  }
}

interface Opened {
  readonly data: StageData
  readonly stepper: MicroStepper
  readonly state: TrainingState
  readonly gradients: Tensors
  readonly clock: DeviceClock
}

const startState = (weights: Tensors): TrainingState => ({
  weights,
  average: new Map([...weights].map(([key, data]) => [key, data.slice()])),
  optimiser: startAdamW(weights),
})
