/** How far a count has come, on a terminal: a line that is written over and over, or, where nobody watches, one now and then. */
import { duration, type Terminal } from '../finetune/progress.ts'

const betweenLinesMs = 10_000

export class Counter {
  readonly #terminal: Terminal
  readonly #what: string
  readonly #of: number
  readonly #now: () => number
  readonly #startedAtMs: number
  #toldAtMs: number
  #lineIsOpen = false

  constructor(what: string, of: number, terminal: Terminal, now = () => performance.now()) {
    this.#what = what
    this.#of = of
    this.#terminal = terminal
    this.#now = now
    this.#startedAtMs = this.#toldAtMs = now()
  }

  reach(done: number): void {
    const elapsedMs = this.#now() - this.#startedAtMs
    const left = done < this.#of ? `, ${duration((elapsedMs / done) * (this.#of - done))} left` : ''
    const text = `${this.#what}: ${done}/${this.#of} in ${duration(elapsedMs)}${left}`
    if (this.#terminal.isTTY) {
      this.#terminal.write(`\r\u001b[K${text.slice(0, (this.#terminal.columns ?? 80) - 1)}`)
      this.#lineIsOpen = true
    } else if (done === this.#of || this.#now() - this.#toldAtMs >= betweenLinesMs) {
      this.#toldAtMs = this.#now()
      this.#terminal.write(`${text}\n`)
    }
  }

  /** What is written over stays. */
  end(): void {
    if (this.#lineIsOpen) this.#terminal.write('\n')
    this.#lineIsOpen = false
  }
}
