/** What a job's steps told, as CSV (RFC 4180; all of it is numbers). */
import type { StepMetrics } from './reader.ts'

const columns = {
  step: 'step',
  stage: 'stage',
  stage_step: 'stageStep',
  loss: 'loss',
  gradient_norm: 'gradientNorm',
  learning_rate: 'learningRate',
  images_per_second: 'imagesPerSecond',
  device_ms: 'deviceMs',
} as const satisfies Readonly<Record<string, keyof StepMetrics>>

export const lineEnd = '\r\n'
export const csvHeader = Object.keys(columns).join(',') + lineEnd

/** @returns a line with its end */
export const csvRow = (metrics: StepMetrics): string =>
  Object.values(columns)
    .map((field) => metrics[field])
    .join(',') + lineEnd
