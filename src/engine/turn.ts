/**
 * Pure: whether the device's next unit of work is one of requests or one of the background, and which.
 *
 * **Requests first.** While a request waits, nothing else runs, with two exceptions. An errand, such as loading a model that is to
 * take a name over, runs one unit whenever it has waited for `errandPatienceMs`: somebody waits for it, and on a device that is
 * never idle it would not end. And a job runs one while it is owed time by the share that is guaranteed to it.
 *
 * **The guaranteed share.** What a job is owed grows by share · t while requests are served for t that it could have used, and
 * falls by (1 − share) · t while it runs for t. It runs before requests while it is owed anything, so that over any time in which
 * both have work it gets its share, but for one unit of work. What it got beyond that, while no request was there, counts against
 * it for `windowMs` at most.
 */

export const backgroundKinds = ['errand', 'assistance', 'training'] as const
/** `errand`: see the protocol; `assistance`: a micro-batch of another device's job; `training`: a job that is at home here. */
export type BackgroundKind = (typeof backgroundKinds)[number]

/** What could run now besides requests. */
export interface BackgroundUnit {
  readonly kind: BackgroundKind
  /** Since it could have run. */
  readonly waitedMs: number
}

export const errandPatienceMs = 2_000
export const windowMs = 5_000

/**
 * @param ready at most one of each kind
 * @param owedMs what the job is owed
 */
export function nextTurn<U extends BackgroundUnit>(
  requests: 'none' | 'waiting',
  ready: readonly U[],
  owedMs: number,
): U | 'requests' | 'idle' {
  const ranked = backgroundKinds.flatMap((kind) => ready.filter((unit) => unit.kind === kind))
  if (requests === 'none') return ranked[0] ?? 'idle'
  return ranked.find((unit) => isDue(unit, owedMs)) ?? 'requests'
}

function isDue({ kind, waitedMs }: BackgroundUnit, owedMs: number): boolean {
  switch (kind) {
    case 'errand':
      return waitedMs >= errandPatienceMs
    case 'assistance':
      return false
    case 'training':
      return owedMs > 0
  }
}

/** What a job is owed after requests were served for some time while it could have run. */
export const owedAfterServing = (owedMs: number, tookMs: number, share: number): number =>
  owedMs + share * tookMs

/** The same after it ran. */
export const owedAfterTraining = (owedMs: number, tookMs: number, share: number): number =>
  Math.max(owedMs - (1 - share) * tookMs, -windowMs)
