/** What fine-tuning asks of the devices together: jobs that outlive a device, and models that come and go without a restart. */
import { rm } from 'node:fs/promises'
import { exchangeFolder } from '../training/exchange.ts'
import type { TrainingEvent, TrainingJob, TrainingOutcome } from '../training/job.ts'
import type { Assistance } from './assistance.ts'
import type { Costs } from './costs.ts'
import { DeviceDied, type Device } from './device.ts'
import { EngineError, type ModelInfo } from './protocol.ts'
import type { ExportOrder, ModelFolder, TrainingCosts } from './training-protocol.ts'

export interface TrainOptions {
  readonly onEvent: (event: TrainingEvent) => void
  /** Its first unit of work begins on this device; again after each move to another. */
  readonly onStart?: ((device: string) => void) | undefined
  /** When aborted, the job saves and ends as soon as it can, as `paused`. */
  readonly pause?: AbortSignal | undefined
  /** When aborted, the job ends before its next unit of work, as `cancelled`. What was saved stays. */
  readonly cancel?: AbortSignal | undefined
}

/** What fine-tuning needs of the devices. */
export interface TrainingPool {
  /**
   * Runs a job, or goes on with it from its last checkpoint, in the time that requests leave of one device; others that have nothing to
   * do help. When the device dies the job goes on from its last checkpoint on whichever is ready.
   * @throws {EngineError} training_failed with the reason; device_failed when devices die under it again and again without a
   *   checkpoint in between
   */
  train(job: TrainingJob, options: TrainOptions): Promise<TrainingOutcome>
  /**
   * Serves a checkpoint under a name, new or taken over, on every device. It is loaded before it takes the name over; requests that
   * were begun end on what they began with. It stays until it is withdrawn, across restarts of devices though not of the pool.
   * @throws {EngineError} deploy_failed when a device cannot open it; then nothing has changed
   */
  deploy(model: ModelFolder): Promise<ModelInfo>
  /** Requests for the name are refused from now on; those that were begun end. @throws {EngineError} unknown_model */
  withdraw(name: string): Promise<void>
  /** Makes a checkpoint of a job into a model or an adapter, on a device, between other work. @throws {EngineError} export_failed */
  exportCheckpoint(order: ExportOrder): Promise<void>
  /** @throws {EngineError} unknown_model */
  trainingCosts(model: string): TrainingCosts
}

export interface TrainingPoolParts {
  readonly devices: readonly Device[]
  /** What every device serves, by name. */
  readonly folders: Map<string, string>
  readonly assistance: Assistance<Device>
  /** Resolves when a device becomes ready; rejects with the signal's reason, or when the pool is closed. */
  readonly deviceReady: (signal: AbortSignal | undefined) => Promise<void>
  readonly modelOf: (name: string) => ModelInfo
  readonly costsOf: (name: string) => Costs
}

/** A job or an errand under which devices died this often, without a checkpoint in between, is taken to be the cause. */
const maxDeaths = 3

export function trainingPool(parts: TrainingPoolParts): TrainingPool {
  const { devices, folders, assistance, deviceReady, modelOf, costsOf } = parts
  /** One after the other: what two of them do to a name must not mix. */
  let changes: Promise<unknown> = Promise.resolve()

  function inTurn<T>(change: () => Promise<T>): Promise<T> {
    const done = changes.then(change)
    changes = done.catch(() => undefined)
    return done
  }

  /** Few jobs first, then little to serve. */
  const leastBusy = (): Device | undefined =>
    devices
      .filter(({ state }) => state === 'ready')
      .toSorted((a, b) => a.jobs - b.jobs || a.load.backlogMs - b.load.backlogMs)[0]

  /** Tries again where a device died, on whichever is ready. */
  async function onSomeDevice<T>(
    what: string,
    signal: AbortSignal | undefined,
    attempt: (device: Device, resetDeaths: () => void) => Promise<T>,
  ): Promise<T> {
    for (let deaths = 0; ;) {
      const device = leastBusy()
      if (!device) {
        await deviceReady(signal)
        continue
      }
      try {
        return await attempt(device, () => (deaths = 0))
      } catch (error) {
        if (!(error instanceof DeviceDied)) throw error
        signal?.throwIfAborted()
        if (error.wasStarted) deaths += 1
        if (deaths >= maxDeaths) {
          const message = `${deaths} device processes died under ${what}: ${error.message}`
          throw new EngineError('device_failed', message)
        }
      }
    }
  }

  async function train(
    job: TrainingJob,
    { onEvent, onStart, pause, cancel }: TrainOptions,
  ): Promise<TrainingOutcome> {
    let lastCheckpoint = ''
    const stop = AbortSignal.any([pause, cancel].filter((signal) => signal !== undefined))
    try {
      return await onSomeDevice(`the job ${job.id}`, stop, async (device, resetDeaths) => {
        assistance.begin(job, device)
        try {
          return await device.train(job, {
            others: devices.length - 1,
            onBegun: () => onStart?.(device.name),
            onEvent(event) {
              // A job that goes on begins with telling of the checkpoint that it goes on from.
              if (event.type === 'checkpoint' && event.folder !== lastCheckpoint) {
                lastCheckpoint = event.folder
                resetDeaths()
              }
              onEvent(event)
            },
            pause,
            cancel,
          })
        } finally {
          assistance.end(job.id)
        }
      })
    } catch (error) {
      // What was saved last is what there is: no device is at work on the job any more.
      if (cancel?.aborted) return { kind: 'cancelled' }
      if (pause?.aborted && (error instanceof DeviceDied || error === stop.reason)) return { kind: 'paused' }
      throw error
    } finally {
      // Devices that died leave something there. What cannot be removed is no reason for a job to fail.
      await rm(exchangeFolder(job.folder), { recursive: true, force: true }).catch(() => undefined)
    }
  }

  /** Opens it on every device that is ready; those that are not open it when they start. */
  async function prepareEverywhere(model: ModelFolder): Promise<void> {
    while (!leastBusy()) await deviceReady(undefined)
    const ready = devices.filter(({ state }) => state === 'ready')
    const prepared = await Promise.allSettled(ready.map((device) => device.prepare(model)))
    const failures = prepared.flatMap((result): unknown[] =>
      result.status === 'rejected' ? [result.reason] : [],
    )
    // One that died opens it when it starts again, unless all did: then the model is taken to be the cause.
    const refusal =
      failures.length === ready.length ? failures[0] : failures.find((one) => !(one instanceof DeviceDied))
    if (refusal === undefined) return
    await Promise.allSettled(ready.map((device) => device.discard(model.name)))
    const message = refusal instanceof Error ? refusal.message : 'the devices say no reason'
    throw new EngineError('deploy_failed', `the model ${model.name} cannot be served: ${message}`)
  }

  return {
    train,
    deploy: (model) =>
      inTurn(async () => {
        const { name, folder } = model
        await prepareEverywhere(model)
        const before = folders.get(name)
        folders.set(name, folder)
        // One that dies meanwhile opens it when it starts again.
        await Promise.all(devices.map((device) => device.putLive(model)))
        if (devices.some((device) => device.serves(name))) return modelOf(name)
        // All of them have died: they start again with what served before, whatever becomes of the folder.
        if (before === undefined) folders.delete(name)
        else folders.set(name, before)
        throw new EngineError('deploy_failed', `the model ${name} cannot be served: all devices have died`)
      }),
    withdraw: (name) =>
      inTurn(async () => {
        modelOf(name)
        folders.delete(name)
        await Promise.allSettled(devices.map((device) => device.withdraw(name)))
      }),
    exportCheckpoint: (order) =>
      onSomeDevice(`the export of ${order.checkpoint}`, undefined, (device) =>
        device.errand({ kind: 'export', order }),
      ),
    trainingCosts(name) {
      modelOf(name)
      const memory = devices.map((device) => device.memoryOf(name)).find((known) => known !== undefined)
      if (!memory) throw new EngineError('unknown_model', `there is no model ${name}`)
      const { step, encode, decode } = costsOf(name)
      return { step, encode, decode, ...memory, devices: devices.length }
    },
  }
}
