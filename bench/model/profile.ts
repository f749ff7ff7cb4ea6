/** Where the time of calls goes, from the profile that the library writes of a session (Chrome's trace event format). */

/** Milliseconds of one call, by what they were spent on, the most first. */
export interface Profile {
  readonly byOperator: ReadonlyMap<string, number>
  /** By place in the model and operator; blocks and layers count as one. */
  readonly byLayer: ReadonlyMap<string, number>
}

export interface TraceEvent {
  readonly cat?: string
  readonly name: string
  /** Microseconds from the profile's beginning, and how many it took. */
  readonly ts: number
  readonly dur: number
  readonly args?: { readonly op_name?: string }
}

const kernel = '_kernel_time'

/** @returns what the operators of each of a session's runs took, in the order of the runs */
export function runsOf(trace: readonly TraceEvent[]): readonly (readonly TraceEvent[])[] {
  const kernels = trace.filter(({ cat, name }) => cat === 'Node' && name.endsWith(kernel))
  return trace
    .filter(({ name }) => name === 'model_run')
    .sort((a, b) => a.ts - b.ts)
    .map((run) => kernels.filter(({ ts }) => ts >= run.ts && ts <= run.ts + run.dur))
}

/** @param calls how many the events are of */
export function profileOf(events: readonly TraceEvent[], calls: number): Profile {
  const [byOperator, byLayer] = [new Map<string, number>(), new Map<string, number>()]
  const count = (sums: Map<string, number>, key: string, ms: number): unknown =>
    sums.set(key, (sums.get(key) ?? 0) + ms)
  for (const { name, dur, args } of events) {
    const operator = args?.op_name ?? 'unknown'
    const ms = dur / 1000 / calls
    count(byOperator, operator, ms)
    count(byLayer, `${layerOf(name.slice(0, -kernel.length))} ${operator}`.trimStart(), ms)
  }
  return { byOperator: descending(byOperator), byLayer: descending(byLayer) }
}

/** A node's name is its module's and its own: `blocks.3.attn.to_q/Gemm_52` → `blocks.*.attn.to_q`. */
const layerOf = (node: string): string => node.replace(/\/[^/]*$/, '').replaceAll(/\b\d+\b/g, '*')

const descending = (sums: ReadonlyMap<string, number>): ReadonlyMap<string, number> =>
  new Map([...sums].sort(([, a], [, b]) => b - a))
