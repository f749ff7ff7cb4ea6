/**
 * Pure: what waits and runs on a device, what work costs, the clock → what the device does next.
 *
 * **Who leads.** Interactive requests (`high`, `normal`) go before batch work (`low`) until that has waited `promotionMs`. Within a
 * class the lowest rank leads:
 *
 *     rank = remaining · factor(priority) − ageing · age,        in milliseconds
 *
 * that is least expected remaining work first, which keeps the mean wait low and slowdown even, with ageing so that long
 * requests are served too. A deadline lowers the rank to what slack is left, as long as it can be met.
 *
 * **The starvation bound.** A rank never falls below −ageing · age. A request that arrived at a with work w has at any time t at most
 * w · factor − ageing · (t − a). So nothing that arrives later than a + w · factor / ageing (for batch work: and than
 * promotionMs after a) can ever go before it: it is overtaken by what arrived within that window and by nothing else.
 *
 * **Who joins.** The leader's next call takes along others that need the same call: prompts of one model, rows of one model and token
 * count (whatever their step, solver, guidance or aspect ratio), decodes of one model, size and part. They join in order of
 * rank while that pays: everyone who waits gains the fixed part of a call that is saved, and the members of a call wait for
 * each other. So a long queue is served in large batches, for throughput, and a short one in small ones, for latency.
 *
 * **Never idle.** While there is any candidate there is work: the leader's next call is always possible alone.
 */
import { callMs, pays, remainingMs, type Costs, type Line, type Need } from './costs.ts'

export const priorities = ['low', 'normal', 'high'] as const
export type Priority = (typeof priorities)[number]

/** What a request needs next; each is one indivisible use of the device. */
export type WorkKind = 'load' | 'encode' | 'denoise' | 'preview' | 'decode'

/** A request as the policy sees it. */
export interface Candidate {
  readonly next: WorkKind
  readonly need: Need
  readonly arrivedMs: number
  readonly priority: Priority
  /** On the same clock as `arrivedMs`. */
  readonly deadlineMs?: number | undefined
}

/** What one call may hold, for memory. What a request needs by itself is always possible. */
export interface Limits {
  /** Rows · tokens of a denoising batch. */
  readonly maxRowTokens: number
  /** Of a batch that is encoded. */
  readonly maxPrompts: number
  /** Latent pixels of all pictures of a decode batch. */
  readonly maxDecodePixels: number
}

export interface Work<C extends Candidate> {
  readonly kind: WorkKind
  /** The leader first; never empty. */
  readonly tasks: readonly [C, ...C[]]
}

/** Slowdown is lowest with none, and its tail with a little: at 0.1 the 99th percentile at high load is half as long again. */
export const ageing = 0.03
export const promotionMs = 60_000
const factors: Readonly<Record<Priority, number>> = { low: 1, normal: 1, high: 0.25 }

/** A prompt batch or a decode batch holds all of its members up to its end. */
const maxTogether = 8

/** @param costsOf what work costs for a model's requests */
export function nextWork<C extends Candidate>(
  candidates: Iterable<C>,
  costsOf: (model: string) => Costs,
  nowMs: number,
  limits: Limits,
): Work<C> | undefined {
  const ranked = standings(candidates, costsOf, nowMs)
  const leader = ranked[0]
  if (!leader) return undefined
  const { next: kind, need } = leader
  const tasks: [C, ...C[]] = [leader.candidate]
  const line = lineOf(costsOf(need.model), leader)
  let units = unitsOf(leader)
  for (const other of ranked) {
    if (other === leader || !isSameCall(leader, other)) continue
    const more = unitsOf(other)
    if (units + more > mostUnits(kind, limits) || (kind !== 'denoise' && tasks.length >= maxTogether)) break
    if (!line || !pays(line, units + more, ranked.length)) break
    tasks.push(other.candidate)
    units += more
  }
  return { kind, tasks }
}

/** The candidates in the order in which they would lead. */
export function rank<C extends Candidate>(
  candidates: Iterable<C>,
  costsOf: (model: string) => Costs,
  nowMs: number,
): readonly C[] {
  return standings(candidates, costsOf, nowMs).map(({ candidate }) => candidate)
}

/** What a candidate needs is asked once for a decision. */
interface Standing<C extends Candidate> extends Pick<Candidate, 'next' | 'need'> {
  readonly candidate: C
  readonly group: number
  readonly rank: number
}

function standings<C extends Candidate>(
  candidates: Iterable<C>,
  costsOf: (model: string) => Costs,
  nowMs: number,
): readonly Standing<C>[] {
  return Array.from(candidates, (candidate) => standing(candidate, costsOf, nowMs)).sort(
    (a, b) => a.group - b.group || a.rank - b.rank || a.candidate.arrivedMs - b.candidate.arrivedMs,
  )
}

function standing<C extends Candidate>(
  candidate: C,
  costsOf: (model: string) => Costs,
  nowMs: number,
): Standing<C> {
  const { next, need, arrivedMs, priority, deadlineMs } = candidate
  const ageMs = nowMs - arrivedMs
  const costs = costsOf(need.model)
  const remaining = remainingMs(costs, need)
  const group = priority === 'low' && ageMs < promotionMs ? 1 : 0
  const own = remaining * factors[priority] - ageing * ageMs
  const slackMs = deadlineMs === undefined ? -1 : deadlineMs - nowMs - remaining
  // Ranked without the load: it would be what changes hands, and two that are pressed would take turns in loading.
  const loadMs = need.isLoaded ? 0 : costs.loadMs
  return { candidate, next, need, group, rank: slackMs >= 0 ? Math.min(own, slackMs + loadMs) : own }
}

/** What decides which calls a candidate can be part of. */
type Wanted = Pick<Candidate, 'next' | 'need'>

function isSameCall({ next, need }: Wanted, other: Wanted): boolean {
  if (other.next !== next || other.need.model !== need.model) return false
  switch (next) {
    case 'load':
      return false
    case 'encode':
      return true
    case 'denoise':
      return other.need.tokens === need.tokens
    case 'preview':
      return false
    case 'decode':
      return other.need.latentPixels === need.latentPixels && other.need.partsDone === need.partsDone
  }
}

/** How much of its call a candidate brings, in the units of the call's cost. */
function unitsOf({ next, need }: Wanted): number {
  switch (next) {
    case 'load':
      return 1
    case 'encode':
      return need.prompts
    case 'denoise':
      return need.rows * need.tokens
    case 'preview':
      return need.previewPixels
    case 'decode':
      return need.latentPixels
  }
}

/** In the units of the call's cost; nothing joins a load or a preview. */
function mostUnits(kind: WorkKind, { maxRowTokens, maxPrompts, maxDecodePixels }: Limits): number {
  switch (kind) {
    case 'encode':
      return maxPrompts
    case 'denoise':
      return maxRowTokens
    case 'decode':
      return maxDecodePixels
    case 'load':
    case 'preview':
      return 0
  }
}

function lineOf({ encode, step, decode }: Costs, { next, need }: Wanted): Line | undefined {
  switch (next) {
    case 'encode':
      return encode
    case 'denoise':
      return step
    case 'decode':
      return decode[need.partsDone]
    case 'load':
    case 'preview':
      return undefined
  }
}

/** What the device is expected to take for this work. */
export function expectedMs({ kind, tasks: [leader, ...others] }: Work<Candidate>, costs: Costs): number {
  if (kind === 'load') return costs.loadMs
  if (kind === 'preview')
    return costs.decode.reduce((sum, line) => sum + callMs(line, leader.need.previewPixels), 0)
  const line = lineOf(costs, leader)
  return line
    ? callMs(
        line,
        others.reduce((units, task) => units + unitsOf(task), unitsOf(leader)),
      )
    : 0
}
