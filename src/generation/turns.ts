/**
 * Pure: whose turn it is in the queue, how much is claimed at once, and who is let in.
 *
 * **Turns.** A request's turn is a moment fixed at its acceptance: its arrival, 10 minutes earlier with high priority, 10
 * minutes later with low. A deadline brings it forward to the last moment at which work could begin, no further than high
 * priority would. Who waits is claimed in the order of turns; a turn never moves, so a request is overtaken only by what
 * arrives within the 20 minutes after it, and by nothing later. Once claimed, the engine's own policy decides.
 *
 * **Admission.** The expected wait is the expected work of all that waits and runs, over the devices. Beyond the limit a
 * request is refused until enough of it is done; one of high priority is let in up to twice the limit, so that a queue
 * filled with other work does not shut it out.
 */
import { nearestBucket } from '../diffusion/buckets.ts'
import type { ModelInfo, Priority } from '../engine/pool.ts'
import { GenerationError } from './errors.ts'
import type { GenerationParameters } from './parameters.ts'

const headStartMs = 600_000

const delaysMs: Readonly<Record<Priority, number>> = { low: headStartMs, normal: 0, high: -headStartMs }

export interface Arrival {
  readonly createdAt: Date
  readonly priority: Priority
  readonly deadline: Date | undefined
  readonly expectedMs: number
}

export function turnOf({ createdAt, priority, deadline, expectedMs }: Arrival): Date {
  const arrivedMs = createdAt.getTime()
  const ownMs = arrivedMs + delaysMs[priority]
  const latestStartMs = deadline === undefined ? Infinity : deadline.getTime() - expectedMs
  return new Date(Math.max(arrivedMs - headStartMs, Math.min(ownMs, latestStartMs)))
}

/** How much work a process holds at most. */
export interface Window {
  /** Expected device time, for each device. */
  readonly workMs: number
  readonly images: number
}

export const defaultWindow: Window = { workMs: 30_000, images: 64 }

/** As much of a generation as the window looks at. */
export interface Load {
  readonly expectedMs: number
  readonly count: number
}

/**
 * @param waiting in the order of their turns
 * @returns how many of them fit beside what is held; the last may reach beyond the work that the window allows, and one is
 *   taken in any case when nothing is held
 */
export function howManyFit(waiting: readonly Load[], held: Load, window: Window): number {
  let { expectedMs, count } = held
  let fit = 0
  for (const next of waiting) {
    const isFirst = count === 0
    if (!isFirst && (expectedMs >= window.workMs || count + next.count > window.images)) break
    expectedMs += next.expectedMs
    count += next.count
    fit += 1
  }
  return fit
}

export interface Admission {
  /** Expected work of all that waits and runs. */
  readonly workMs: number
  readonly devices: number
  readonly priority: Priority
  readonly maxWaitMs: number
}

/** @throws {GenerationError} `queue_full`, with the time after which the expected wait is below the limit */
export function admit({ workMs, devices, priority, maxWaitMs }: Admission): void {
  const limitMs = priority === 'high' ? 2 * maxWaitMs : maxWaitMs
  const waitMs = workMs / devices
  if (waitMs <= limitMs) return
  const seconds = (ms: number) => Math.ceil(ms / 1000)
  throw new GenerationError(
    'queue_full',
    `the expected wait is ${seconds(waitMs)} s, and at most ${seconds(limitMs)} s may be`,
    { retryAfterSeconds: Math.max(1, seconds(waitMs - limitMs)) },
  )
}

/** Rows times tokens of one step of all pictures; a guided picture has two rows. */
export function rowTokensOf(
  parameters: GenerationParameters,
  { buckets, latentScale, patchSize }: ModelInfo,
): number {
  const bucket = nearestBucket(buckets, parameters)
  const side = latentScale * patchSize
  const tokens = Math.ceil((bucket.width / side) * (bucket.height / side))
  return parameters.count * (parameters.guidanceScale > 1 ? 2 : 1) * tokens
}
