/** What one component takes to load, and its calls. It has the process to itself, so that what is resident is the component's. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Session } from '../../src/engine/session.ts'
import {
  openNamed,
  type Call,
  type ComponentName,
  type ComponentOptions,
  type Executed,
  type Opened,
} from './components.ts'
import { floorOf, operationsOf, sizesOf } from './matrix-products.ts'
import { forgetPeak, readMemory, readPeakBytes, type Memory } from './memory.ts'
import { profileOf, runsOf, type Profile, type TraceEvent } from './profile.ts'

export interface Task extends ComponentOptions {
  readonly component: ComponentName
}

export interface Measured {
  readonly loadMs: number
  /** What loading added. */
  readonly loaded: Memory
  readonly calls: readonly MeasuredCall[]
}

export interface MeasuredCall extends Pick<Call, 'name' | 'shape' | 'yields'> {
  readonly operations: number
  /** Of the same call at the published depth. */
  readonly wholeOperations: number
  /** What was resident at the peak of the first run, beyond what was before it. */
  readonly peakBytes: number
  readonly ms: readonly number[]
  /** The matrix products alone, in turns with the call. */
  readonly floorMs: readonly number[]
  /** Where its time goes; measured instead of all the rest. */
  readonly profile?: Profile
}

export async function measure({ component, ...options }: Task): Promise<Measured> {
  const before = readMemory()
  const startedMs = performance.now()
  const opened = await openNamed(component, options)
  const loadMs = performance.now() - startedMs
  const after = readMemory()
  const loaded = {
    privateBytes: after.privateBytes - before.privateBytes,
    fileBytes: after.fileBytes - before.fileBytes,
  }
  const { profile } = options
  if (profile !== undefined) return { loadMs, loaded, calls: await profileCalls(opened, profile) }
  const calls: MeasuredCall[] = []
  for (const call of opened.calls) calls.push(await timeCall(call, opened, options))
  return { loadMs, loaded, calls }
}

async function timeCall(call: Call, { weights }: Opened, options: ComponentOptions): Promise<MeasuredCall> {
  const idle = readMemory()
  forgetPeak()
  const executed = await call.run()
  const peakBytes = readPeakBytes() - idle.privateBytes - idle.fileBytes
  const floors: Executed[] = []
  if (call.hasFloor) {
    for (const { session, feeds } of executed) {
      const floor = floorOf(session.graph, sizesOf(session.graph, feeds))
      floors.push({ session: await Session.open(floor.graph, weights, options), feeds: floor.feeds })
    }
  }
  const runFloors = async (): Promise<void> => {
    for (const { session, feeds } of floors) await session.run(feeds)
  }
  await runFloors()
  const [ms, floorMs]: [number[], number[]] = [[], []]
  for (let round = 0; round < call.rounds; round++) {
    ms.push(await timed(call.run))
    if (call.hasFloor) floorMs.push(await timed(runFloors))
  }
  for (const { session } of floors) await session.close()
  return { ...described(call, executed), peakBytes, ms, floorMs }
}

const profiledRuns = 3

/** A session's profile is of all its runs, those before these as well: they are told apart by their order. */
async function profileCalls({ sessions, calls }: Opened, folder: string): Promise<readonly MeasuredCall[]> {
  const runs = new Map(sessions.map((session): [Session, Call[]] => [session, []]))
  const executed = new Map<Call, readonly Executed[]>()
  for (const call of calls) {
    for (let run = 0; run < profiledRuns; run++) {
      const of = await call.run()
      executed.set(call, of)
      for (const { session } of of) runs.get(session)?.push(call)
    }
  }
  const events = new Map(calls.map((call): [Call, TraceEvent[]] => [call, []]))
  for (const [session, order] of runs) {
    session.endProfiling()
    const traced = runsOf(await readTrace(join(folder, session.graph.name))).slice(-order.length)
    for (const [index, call] of order.entries()) events.get(call)?.push(...(traced[index] ?? []))
  }
  return calls.map((call) => {
    const profile = profileOf(events.get(call) ?? [], profiledRuns)
    return { ...described(call, executed.get(call) ?? []), peakBytes: 0, ms: [], floorMs: [], profile }
  })
}

function described({ name, shape, yields }: Call, executed: readonly Executed[]) {
  let [operations, wholeOperations] = [0, 0]
  for (const {
    session: { graph },
    feeds,
    whole = graph,
  } of executed) {
    const sizes = sizesOf(graph, feeds)
    operations += operationsOf(graph, sizes)
    wholeOperations += operationsOf(whole, sizes)
  }
  return { name, shape, ...(yields && { yields }), operations, wholeOperations }
}

async function readTrace(folder: string): Promise<readonly TraceEvent[]> {
  const [file] = await readdir(folder)
  if (file === undefined) throw new Error(`${folder}: expected a profile, and the library wrote none`)
  return JSON.parse(await readFile(join(folder, file), 'utf8')) as TraceEvent[]
}

async function timed(action: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now()
  await action()
  return performance.now() - startedMs
}
