/** What is told of a job on its way: a log for people, with figures for programs. */
import type { Prisma } from '../storage/database.ts'
import type { StageKind } from '../training/job.ts'
import type { Failure } from './job.ts'

export type EventLevel = 'info' | 'warn' | 'error'

/** What happened. Stages are counted from 0, steps through all stages from 1. */
export type EventDetails =
  | { readonly type: 'created' }
  /** Its dataset was read. */
  | { readonly type: 'validated'; readonly pictures: number; readonly left_out: number }
  | { readonly type: 'queued' }
  /** Also after each move to another device. */
  | { readonly type: 'started'; readonly device: string }
  | { readonly type: 'preparing'; readonly stage: number; readonly done: number; readonly of: number }
  | {
      readonly type: 'stage_started'
      readonly stage: number
      readonly kind: StageKind
      readonly micro_batch: number
    }
  /** Some steps, not all of them, as they are taken. */
  | {
      readonly type: 'metrics'
      readonly stage: number
      readonly step: number
      readonly steps: number
      readonly loss: number
      readonly gradient_norm: number
      readonly learning_rate: number
      readonly images_per_second: number
    }
  | { readonly type: 'sample'; readonly step: number; readonly sample_id: string; readonly index: number }
  | { readonly type: 'checkpoint'; readonly step: number; readonly checkpoint_id: string }
  | { readonly type: 'stage_finished'; readonly stage: number }
  | { readonly type: 'note' }
  | { readonly type: 'pausing' }
  | { readonly type: 'paused' }
  | { readonly type: 'resumed' }
  | FinalEventDetails

export type FinalEventDetails =
  | { readonly type: 'succeeded' }
  | { readonly type: 'failed'; readonly code: Failure['code'] }
  | { readonly type: 'cancelled' }

export interface NewEvent {
  readonly level: EventLevel
  readonly message: string
  readonly details: EventDetails
}

/** `sequence` counts the events of one job: 1, 2, 3, … */
export interface FineTuningEvent extends NewEvent {
  readonly sequence: number
  readonly at: Date
}

export const info = (message: string, details: EventDetails): NewEvent => ({
  level: 'info',
  message,
  details,
})

export function isFinalEvent({ details: { type } }: NewEvent): boolean {
  return type === 'succeeded' || type === 'failed' || type === 'cancelled'
}

/** As the table has it. */
export function toRow({ level, message, details: { type, ...data } }: NewEvent): {
  level: string
  type: string
  message: string
  data: Prisma.InputJsonObject
} {
  return { level, type, message, data }
}

export function toEvent(row: {
  sequence: number
  level: string
  type: string
  message: string
  data: Prisma.JsonValue
  createdAt: Date
}): FineTuningEvent {
  return {
    sequence: row.sequence,
    at: row.createdAt,
    level: row.level as EventLevel,
    message: row.message,
    details: { type: row.type, ...(row.data as object) } as EventDetails,
  }
}
