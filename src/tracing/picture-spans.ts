/** One picture's spans: its wait for the device, encoding, every step, decoding, storing. */
import {
  SpanStatusCode,
  trace,
  type Attributes,
  type Context,
  type Span,
  type Tracer,
} from '@opentelemetry/api'
import type { ImageProgress, ImageResult } from '../engine/pool.ts'
import type { PictureTrace } from './tracing.ts'

/** A picture of more steps has those beyond in its denoising span alone. */
const maxSteps = 256

interface Step {
  readonly step: number
  readonly batchRows: number
  readonly endedMs: number
}

export class PictureSpans implements PictureTrace {
  readonly #tracer: Tracer
  readonly #span: Span
  readonly #inside: Context
  #startedMs: number | undefined
  #steps: Step[] = []
  #madeMs: number | undefined

  constructor(tracer: Tracer, parent: Context, index: number) {
    this.#tracer = tracer
    this.#span = tracer.startSpan('picture', { attributes: { 'atelier.picture': index } }, parent)
    this.#inside = trace.setSpan(parent, this.#span)
  }

  note(progress: ImageProgress): void {
    switch (progress.phase) {
      case 'started':
        // A device that died began with it before: what that one did led to nothing.
        this.#startedMs = Date.now()
        this.#steps = []
        return
      case 'denoising': {
        const { step, batchRows } = progress
        this.#steps.push({ step, batchRows, endedMs: Date.now() })
        return
      }
      case 'preview':
      case 'decoding':
    }
  }

  made({ timings, receipt }: ImageResult): void {
    this.#madeMs = Date.now()
    const { device, deviceMs, rowSteps } = receipt
    this.#span.setAttributes({
      'atelier.device': device,
      'atelier.device_ms': deviceMs,
      'atelier.row_steps': rowSteps,
    })
    const startedMs = this.#startedMs ?? this.#madeMs
    const denoisingMs = startedMs + timings.encodeMs
    const decodingMs = this.#steps.at(-1)?.endedMs ?? denoisingMs
    this.#between('encode', startedMs, denoisingMs)
    this.#denoising(denoisingMs, decodingMs)
    this.#between('decode', decodingMs, this.#madeMs)
  }

  end(error?: unknown): void {
    if (this.#madeMs !== undefined) this.#between('store', this.#madeMs, Date.now())
    else if (this.#startedMs !== undefined)
      this.#denoising(this.#startedMs, this.#steps.at(-1)?.endedMs ?? this.#startedMs)
    if (error !== undefined) {
      const message = error instanceof Error ? error.constructor.name : 'unknown'
      this.#span.setStatus({ code: SpanStatusCode.ERROR, message })
    }
    this.#span.end()
  }

  #denoising(fromMs: number, toMs: number): void {
    const span = this.#tracer.startSpan('denoise', { startTime: fromMs }, this.#inside)
    span.setAttribute('atelier.steps', this.#steps.length)
    const inside = trace.setSpan(this.#inside, span)
    let beganMs = fromMs
    for (const { step, batchRows, endedMs } of this.#steps.slice(0, maxSteps)) {
      const attributes = { 'atelier.step': step, 'atelier.batch_rows': batchRows }
      this.#between('step', Math.min(beganMs, endedMs), endedMs, attributes, inside)
      beganMs = endedMs
    }
    span.end(toMs)
  }

  #between(
    name: string,
    fromMs: number,
    toMs: number,
    attributes: Attributes = {},
    inside = this.#inside,
  ): void {
    this.#tracer.startSpan(name, { startTime: fromMs, attributes }, inside).end(Math.max(fromMs, toMs))
  }
}
