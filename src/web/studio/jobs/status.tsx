/** How a job stands, in a word, and what can be done about it. */
import type { JSX } from 'preact'
import type { SchemaFineTuningJob } from '../../../sdk/index.ts'
import { Chip, type Tone } from '../parts.tsx'

const looks: Readonly<Record<SchemaFineTuningJob['status'], readonly [string, Tone]>> = {
  validating: ['Reading its dataset', 'accent'],
  queued: ['Queued', 'accent'],
  running: ['Running', 'accent'],
  paused: ['Paused', 'warn'],
  succeeded: ['Done', 'good'],
  failed: ['Failed', 'bad'],
  cancelled: ['Cancelled', 'none'],
}

export function JobStatus({ status, pausing }: Pick<SchemaFineTuningJob, 'status' | 'pausing'>): JSX.Element {
  const [word, tone] = looks[status]
  return <Chip tone={tone}>{pausing ? 'Pausing' : word}</Chip>
}

type Standing = Pick<SchemaFineTuningJob, 'status'>

export const hasEnded = ({ status }: Standing): boolean =>
  status === 'succeeded' || status === 'failed' || status === 'cancelled'

/** It changes by itself. */
export const isMoving = ({ status }: Standing): boolean => !hasEnded({ status }) && status !== 'paused'

export const nameOf = ({ model, suffix }: Pick<SchemaFineTuningJob, 'model' | 'suffix'>): string =>
  suffix === null ? model : `${model}-${suffix}`
