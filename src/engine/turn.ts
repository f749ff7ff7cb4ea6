/**
 * Pure: whether the device's next unit of work is one of requests or one of the background, and which.
 *
 * **Requests first.** While a request waits, nothing else runs, but for what is owed its guaranteed share: a job the one that it was
 * given, and an errand, such as loading a model that is to take a name over, a tenth, since somebody waits for it and on a device
 * that is never idle it would not end.
 *
 * **The guaranteed share.** What is owed grows by share · t while requests are served for t that could have been used otherwise, and
 * falls by (1 − share) · t with a use of t. It is used before requests while there is any, so that over any time in which both
 * have work the share is kept, but for one unit of work. What was had beyond that, while no request was there, counts against it for
 * `windowMs` at most.
 */

export const backgroundKinds = ['errand', 'assistance', 'training'] as const
/** `errand`: see the protocol; `assistance`: a micro-batch of another device's job; `training`: a job that is at home here. */
export type BackgroundKind = (typeof backgroundKinds)[number]

type ByKind = Readonly<Record<BackgroundKind, number>>

/** Other devices' jobs are helped by who has nothing else to do. */
export const sharesWith = (training: number): ByKind => ({ errand: 0.1, assistance: 0, training })

/** Milliseconds of the device. */
export const nothingOwed: ByKind = { errand: 0, assistance: 0, training: 0 }

export const windowMs = 5_000

/** @param ready what could run now besides requests */
export function nextTurn(
  requests: 'none' | 'waiting',
  ready: readonly BackgroundKind[],
  owed: ByKind,
): BackgroundKind | 'requests' | 'idle' {
  const ranked = backgroundKinds.filter((kind) => ready.includes(kind))
  if (requests === 'none') return ranked[0] ?? 'idle'
  return ranked.find((kind) => owed[kind] > 0) ?? 'requests'
}

/** After a unit of requests' work, while what is ready could have run. */
export function owedAfterRequests(
  owed: ByKind,
  tookMs: number,
  ready: readonly BackgroundKind[],
  shares: ByKind,
): ByKind {
  const grown = ready.map((kind) => [kind, owed[kind] + shares[kind] * tookMs] as const)
  return { ...owed, ...Object.fromEntries(grown) }
}

export function owedAfterUse(owed: ByKind, tookMs: number, kind: BackgroundKind, shares: ByKind): ByKind {
  return { ...owed, [kind]: Math.max(owed[kind] - (1 - shares[kind]) * tookMs, -windowMs) }
}
