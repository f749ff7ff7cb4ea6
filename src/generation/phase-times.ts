/** How long generations waited, and how long each phase of their pictures took, as Prometheus counts it. */
import { Histogram, Registry } from 'prom-client'
import type { PhaseTimings } from '../engine/pool.ts'

const phases = ['queue', 'wait', 'encode', 'denoise', 'decode', 'total'] as const

export class PhaseTimes {
  readonly registry = new Registry()
  readonly #seconds = new Histogram({
    name: 'atelier_phase_seconds',
    help: 'Where the time of what succeeded went: queue and total of generations; wait at the device, encode, denoise and decode of pictures.',
    labelNames: ['phase'],
    buckets: [0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600],
    registers: [this.registry],
  })

  constructor() {
    for (const phase of phases) this.#seconds.zero({ phase })
  }

  add(
    { queuedMs, totalMs }: { readonly queuedMs: number; readonly totalMs: number },
    pictures: readonly PhaseTimings[],
  ): void {
    this.#observe('queue', queuedMs)
    this.#observe('total', totalMs)
    for (const { waitMs, encodeMs, denoiseMs, decodeMs } of pictures) {
      this.#observe('wait', waitMs)
      this.#observe('encode', encodeMs)
      this.#observe('denoise', denoiseMs)
      this.#observe('decode', decodeMs)
    }
  }

  #observe(phase: (typeof phases)[number], ms: number): void {
    this.#seconds.observe({ phase }, Math.max(0, ms) / 1000)
  }
}
