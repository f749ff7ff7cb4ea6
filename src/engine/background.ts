/** What a device does besides requests: errands, jobs and micro-batches of others' jobs, each a sequence of units of work. */
import type { TrainingUnit } from '../training/host.ts'
import type { TrainingLoad } from './training-protocol.ts'
import { backgroundKinds, type BackgroundKind } from './turn.ts'

export interface BackgroundTask {
  readonly kind: BackgroundKind
  /** Of the job, where it is one. */
  readonly name: string
  /** Tells by itself how it ended, and throws nothing; what it holds is given back when it is ended early by `return()`. */
  readonly units: AsyncGenerator<TrainingUnit, void>
}

interface Entry extends BackgroundTask {
  state: 'new' | 'ready' | 'waiting'
  /** It is to be ended before its next unit of work. While it waits it is left alone: it would wait on, and the device with it. */
  isEnding: boolean
}

export class Background {
  /** Of each kind the first is at work and the others wait for its end. */
  readonly #queues: Readonly<Record<BackgroundKind, Entry[]>> = { errand: [], assistance: [], training: [] }
  readonly #onReady: () => void
  #trainingMs = 0
  #units = 0
  #steps = 0

  /** @param onReady something can run that could not before */
  constructor(onReady: () => void) {
    this.#onReady = onReady
  }

  add(task: BackgroundTask): void {
    this.#queues[task.kind].push({ ...task, state: 'new', isEnding: false })
    this.#onReady()
  }

  /** Takes one back that has not begun. */
  takeBack(kind: BackgroundKind, name: string): 'taken-back' | 'begun' | 'unknown' {
    const queue = this.#queues[kind]
    const index = queue.findIndex((entry) => entry.name === name)
    if (index === -1) return 'unknown'
    if (queue[index]?.state !== 'new') return 'begun'
    queue.splice(index, 1)
    return 'taken-back'
  }

  /** Ends one that has begun before its next unit of work, when what it waits for has come. */
  end(kind: BackgroundKind, name: string): void {
    const entry = this.#queues[kind].find((one) => one.name === name)
    if (!entry) return
    entry.isEnding = true
    this.#onReady()
  }

  /** What could run now. */
  get ready(): readonly BackgroundKind[] {
    return backgroundKinds.filter((kind) => {
      const [first] = this.#queues[kind]
      return first !== undefined && first.state !== 'waiting'
    })
  }

  /** Runs one unit of the first of that kind. @returns how long it took */
  async run(kind: BackgroundKind): Promise<number> {
    const [entry] = this.#queues[kind]
    if (!entry) return 0
    const startedMs = performance.now()
    entry.state = 'ready'
    const { value, done } = await (entry.isEnding ? entry.units.return() : entry.units.next())
    const tookMs = performance.now() - startedMs
    if (done) this.#queues[kind].shift()
    else if (value.kind === 'wait') this.#wait(entry, value.until)
    if (kind === 'errand') return tookMs
    this.#trainingMs += tookMs
    if (!done && value.kind !== 'wait') this.#units += 1
    return tookMs
  }

  /** The job at work has taken a step of its optimiser. */
  countStep(): void {
    this.#steps += 1
  }

  get load(): TrainingLoad {
    return {
      job: this.#queues.training[0]?.name,
      deviceMs: this.#trainingMs,
      units: this.#units,
      steps: this.#steps,
    }
  }

  #wait(entry: Entry, until: Promise<unknown>): void {
    entry.state = 'waiting'
    const goOn = (): void => {
      entry.state = 'ready'
      this.#onReady()
    }
    // What came of it is told to whoever made the promise.
    until.then(goOn, goOn)
  }
}
