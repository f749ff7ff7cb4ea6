/**
 * Traces: from an HTTP request through the queue to each denoising step and to the webhook that is told, and of what jobs run, in
 * whichever processes those happen.
 *
 * Off unless OpenTelemetry's own variables name a receiver; then nothing of it is loaded, and nothing is noted.
 */
import type { ImageProgress, ImageResult } from '../engine/pool.ts'

export interface Tracing {
  /** @param parent the client's `traceparent`, where it sent one */
  request(parent: string | undefined): RequestTrace
  generation(generation: TracedGeneration): GenerationTrace
  /** One attempt at a fine-tuning job. */
  run(run: TracedRun): RunTrace
  /** One attempt to tell a webhook of a generation's end. */
  delivery(delivery: TracedDelivery): DeliveryTrace
  /** Sends what was not sent yet. */
  close(): Promise<void>
}

export interface RequestTrace {
  /** What is done for the request names this as its parent (W3C Trace Context). */
  readonly traceparent: string
  end(answer: {
    readonly method: string
    readonly route: string
    readonly status: number
    readonly requestId: string
  }): void
}

export interface TracedGeneration {
  readonly id: string
  readonly requestId: string
  readonly traceparent: string | undefined
  readonly createdAt: Date
  readonly attempt: number
  readonly parameters: { readonly model: string }
}

export interface GenerationTrace {
  /** Of one picture; told of its progress as the device tells it. */
  picture(index: number): PictureTrace
  end(outcome: string): void
}

export interface PictureTrace {
  note(progress: ImageProgress): void
  /** The device is done with it; what comes until `end` is encoding and storing. */
  made(result: ImageResult): void
  end(error?: unknown): void
}

export interface TracedRun {
  /** Of the job. */
  readonly id: string
  readonly attempt: number
  readonly model: string
}

export interface RunTrace {
  stageStarted(stage: number, kind: string): void
  stageFinished(steps: number): void
  end(outcome: string): void
}

export interface TracedDelivery {
  readonly id: string
  readonly event: string
  readonly generationId: string
  readonly attempts: number
  /** Of the request for the generation. */
  readonly traceparent: string | undefined
}

export interface DeliveryTrace {
  end(outcome: { readonly kind: string; readonly status?: number }): void
}

type Environment = Readonly<Record<string, string | undefined>>

/** @returns undefined where the environment names no receiver */
export async function openTracing(environment: Environment, process: string): Promise<Tracing | undefined> {
  const { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: own } = environment
  if (!endpoint && !own) return undefined
  const { createTracing } = await import('./otlp.ts')
  return createTracing(environment, process)
}
