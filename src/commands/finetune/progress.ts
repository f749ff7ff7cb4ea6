/** A job's progress on a terminal: a bar that is written over and over, or, where nobody watches, a line now and then. */
import { divergence } from '../../fine-tuning/divergence.ts'
import type { StageReport, StepReport, TrainingEvent, TrainingJob } from '../../training/job.ts'

/** What of a stream is needed, such as `process.stdout`. */
export interface Terminal {
  readonly isTTY?: boolean
  readonly columns?: number
  write(text: string): unknown
}

const betweenLinesMs = 10_000
const barWidth = 24

export class TerminalProgress {
  readonly #job: Pick<TrainingJob, 'stages'>
  readonly #terminal: Terminal
  readonly #now: () => number
  #toldAtMs = -Infinity
  #barIsShown = false

  constructor(job: Pick<TrainingJob, 'stages'>, terminal: Terminal, now = () => performance.now()) {
    this.#job = job
    this.#terminal = terminal
    this.#now = now
  }

  /** A line that stays. */
  line(text: string): void {
    const over = this.#barIsShown ? '\r\u001b[K' : ''
    this.#barIsShown = false
    this.#terminal.write(`${over}${text}\n`)
  }

  /** What the bar leaves behind would be written over by the shell. */
  end(): void {
    if (this.#barIsShown) this.#terminal.write('\n')
    this.#barIsShown = false
  }

  note(event: TrainingEvent): void {
    switch (event.type) {
      case 'note':
        return this.line(event.message)
      case 'preparing': {
        const { stage, done, of } = event
        return this.#advance(`${this.#nameOf(stage)}: encoding`, done, of, '')
      }
      case 'stage_started': {
        const { steps, batchSize, resolution } = this.#job.stages[event.stage]!
        this.#toldAtMs = -Infinity
        return this.line(
          `${this.#nameOf(event.stage)}: ${steps} steps of ${batchSize} pictures at ${resolution} px, ${event.microBatch} at once`,
        )
      }
      case 'step':
        return this.#advance(this.#nameOf(event.stage), event.step, event.steps, figuresOf(event))
      case 'sample':
        return this.line(`sample after step ${event.step}: ${event.file} (${JSON.stringify(event.prompt)})`)
      case 'checkpoint':
        return
      case 'stage_finished': {
        this.line(`${this.#nameOf(event.stage)}: ${changeOf(event)}`)
        const warning = divergence(event)
        if (warning !== undefined) this.line(`warning: ${warning}`)
        return
      }
    }
  }

  #nameOf(stage: number): string {
    const { stages } = this.#job
    return `stage ${stage + 1} of ${stages.length} (${stages[stage]!.kind})`
  }

  #advance(what: string, done: number, of: number, figures: string): void {
    const isLast = done === of
    const end = figures === '' ? '' : `  ${figures}`
    if (this.#terminal.isTTY) {
      const text = `${what} ${bar(done / of)} ${done}/${of}${end}`
      this.#terminal.write(`\r\u001b[K${text.slice(0, (this.#terminal.columns ?? 80) - 1)}`)
      this.#barIsShown = true
    } else if (isLast || this.#now() - this.#toldAtMs >= betweenLinesMs) {
      this.#toldAtMs = this.#now()
      this.#terminal.write(`${what}: ${done}/${of}${end}\n`)
    }
  }
}

function bar(share: number): string {
  const full = Math.round(share * barWidth)
  return `[${'#'.repeat(full)}${'-'.repeat(barWidth - full)}]`
}

const figuresOf = ({ loss, imagesPerSecond, etaMs }: StepReport): string =>
  `loss ${loss.toPrecision(4)}  ${imagesPerSecond.toPrecision(3)} images/s  ETA ${duration(etaMs)}`

function changeOf({ heldOut, largestChange, deviceMs }: StageReport): string {
  const learned = heldOut
    ? `loss ${heldOut.lossBefore.toPrecision(4)} → ${heldOut.lossAfter.toPrecision(4)} over ${heldOut.pictures} held out`
    : 'no pictures were held out'
  const { parameter, relative } = largestChange
  return `${learned}; changed most: ${parameter} by ${(100 * relative).toPrecision(2)} %; ${duration(deviceMs)} of device time`
}

/** 3,725,000 → 1 h 2 min */
export function duration(ms: number): string {
  const seconds = Math.round(ms / 1000)
  if (seconds < 60) return `${seconds} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}
