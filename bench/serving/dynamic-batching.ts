/**
 * Request-level dynamic batching, as inference servers do that know nothing of denoising steps: a batch is made of whole
 * requests, and it runs to its end.
 *
 * Reproduces the dynamic batcher of NVIDIA's Triton (max_batch_size, max_queue_delay_microseconds): a batch starts when it is
 * full or when its oldest request has waited for the delay. It is kinder than Triton's in one thing: requests that fit together are
 * found anywhere in the queue, where Triton ends a batch at the first request of another shape.
 */
export interface Waiting<R> {
  readonly request: R
  readonly arrivedMs: number
}

export interface BatchingLimits {
  readonly maxBatch: number
  readonly maxDelayMs: number
}

/** The next batch, oldest first; or until when to wait for more requests; or that none is there. */
export type Decision<R> =
  | { readonly kind: 'run'; readonly batch: readonly Waiting<R>[] }
  | { readonly kind: 'wait'; readonly untilMs: number }
  | { readonly kind: 'idle' }

/**
 * @param waiting in order of arrival
 * @param keyOf requests of one key can share a batch
 */
export function formBatch<R>(
  waiting: readonly Waiting<R>[],
  keyOf: (request: R) => string,
  nowMs: number,
  { maxBatch, maxDelayMs }: BatchingLimits,
): Decision<R> {
  // Groups are in the order of their oldest members.
  const groups = [...Map.groupBy(waiting, ({ request }) => keyOf(request)).values()]
  const dueMs = (group: readonly Waiting<R>[]) => group[0]!.arrivedMs + maxDelayMs
  const ready = groups.find((group) => group.length >= maxBatch || dueMs(group) <= nowMs)
  if (ready) return { kind: 'run', batch: ready.slice(0, maxBatch) }
  if (groups.length === 0) return { kind: 'idle' }
  return { kind: 'wait', untilMs: Math.min(...groups.map(dueMs)) }
}
