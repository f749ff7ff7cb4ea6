/** The policy over random workloads on a simulated clock and a simulated device that takes just what is expected. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  ageing,
  expectedMs,
  nextWork,
  promotionMs,
  rank,
  type Candidate,
  type Priority,
  type Work,
  type WorkKind,
} from '../../src/engine/batch.ts'
import { remainingMs, type Costs, type Need } from '../../src/engine/costs.ts'

const costs: Costs = {
  loadMs: 300,
  encode: { baseMs: 5, perUnitMs: 20 },
  step: { baseMs: 8, perUnitMs: 0.05 },
  decode: [
    { baseMs: 2, perUnitMs: 0.02 },
    { baseMs: 0, perUnitMs: 0.05 },
  ],
}
const costsOf = () => costs
const limits = { maxRowTokens: 4096, maxPrompts: 3, maxDecodePixels: 8192 }

interface Job {
  readonly model: string
  readonly arrivedMs: number
  readonly steps: number
  readonly rows: 1 | 2
  readonly tokens: number
  readonly prompts: number
  readonly priority: Priority
  readonly slackMs: number | undefined
}

/** A request on the simulated device. */
class SimulatedTask implements Candidate {
  readonly job: Job
  readonly arrivedMs: number
  readonly priority: Priority
  readonly deadlineMs: number | undefined
  readonly need: { -readonly [K in keyof Need]: Need[K] }
  readonly workMs: number
  stepsTaken = 0
  isDone = false

  constructor(job: Job) {
    this.job = job
    this.arrivedMs = job.arrivedMs
    this.priority = job.priority
    this.need = {
      model: job.model,
      isLoaded: true,
      prompts: job.prompts,
      rows: job.rows,
      tokens: job.tokens,
      stepsLeft: job.steps,
      latentPixels: job.tokens * 4,
      partsDone: 0,
      previewPixels: 0,
    }
    this.workMs = remainingMs(costs, this.need)
    this.deadlineMs = job.slackMs === undefined ? undefined : job.arrivedMs + this.workMs + job.slackMs
  }

  get next(): WorkKind {
    if (this.need.prompts > 0) return 'encode'
    return this.need.stepsLeft > 0 ? 'denoise' : 'decode'
  }

  advance(kind: WorkKind): void {
    must(this.next === kind, 'a request is given what it does not need')
    if (kind === 'encode') this.need.prompts = 0
    else if (kind === 'denoise') {
      this.need.stepsLeft -= 1
      this.stepsTaken += 1
    } else {
      this.need.partsDone += 1
      this.isDone = this.need.partsDone === costs.decode.length
    }
  }
}

const job: fc.Arbitrary<Job> = fc.record({
  model: fc.constantFrom('a', 'b'),
  // Some together, some over minutes, so that there are late ones.
  arrivedMs: fc.oneof(fc.nat(2_000), fc.nat(100_000)),
  steps: fc.constantFrom(1, 2, 4, 8, 20),
  rows: fc.constantFrom<1 | 2>(1, 2),
  tokens: fc.constantFrom(64, 256, 1024),
  prompts: fc.nat(2),
  priority: fc.constantFrom<Priority>('low', 'normal', 'normal', 'high'),
  slackMs: fc.option(fc.nat(10_000), { nil: undefined }),
})
const workload = fc.array(job, { minLength: 1, maxLength: 8 })

/** Runs the workload to its end; `inspect` sees every decision and the tasks it was made among. */
function simulate(
  jobs: readonly Job[],
  inspect: (work: Work<SimulatedTask>, present: readonly SimulatedTask[], nowMs: number) => void,
): SimulatedTask[] {
  const tasks = jobs.map((each) => new SimulatedTask(each))
  let nowMs = 0
  for (;;) {
    const present = tasks.filter((task) => task.arrivedMs <= nowMs && !task.isDone)
    const work = nextWork(present, costsOf, nowMs, limits)
    must(
      (work === undefined) === (present.length === 0),
      'the device is idle while there is work, or the reverse',
    )
    if (work) {
      inspect(work, present, nowMs)
      nowMs += expectedMs(work, costs)
      for (const task of work.tasks) task.advance(work.kind)
    } else {
      const coming = tasks.filter(({ isDone }) => !isDone).map(({ arrivedMs }) => arrivedMs)
      if (coming.length === 0) return tasks
      nowMs = Math.min(...coming)
    }
  }
}

/** As expect, without its cost: this is asked some million times. */
function must(holds: boolean, what: string): void {
  if (!holds) throw new Error(what)
}

const factors: Readonly<Record<Priority, number>> = { low: 1, normal: 1, high: 0.25 }
const isBatchWork = ({ priority, arrivedMs }: SimulatedTask, nowMs: number) =>
  priority === 'low' && nowMs - arrivedMs < promotionMs

/** Until when others may arrive that go before this one. */
const overtakenUntilMs = ({ arrivedMs, workMs, priority }: SimulatedTask) =>
  arrivedMs + Math.max((workMs * factors[priority]) / ageing, priority === 'low' ? promotionMs : 0)

test(
  'over 10,000 random workloads: work is conserved, nothing is lost or run twice, nothing starves',
  { timeout: 120_000 },
  () => {
    let workloads = 0
    fc.assert(
      fc.property(workload, (jobs) => {
        workloads += 1
        const tasks = simulate(jobs, ({ kind, tasks: together }, present, nowMs) => {
          const [leader] = together
          must(new Set(together).size === together.length, 'a request is in a call twice')
          let [rowTokens, prompts, pixels] = [0, 0, 0]
          for (const task of together) {
            must(present.includes(task), 'a request is run that is not there')
            must(task.next === kind, 'a request is given what it does not need')
            must(task.need.model === leader.need.model, 'two models share a call')
            must(
              kind === 'encode' || task.need.tokens === leader.need.tokens,
              'two token counts share a call',
            )
            rowTokens += task.need.rows * task.need.tokens
            prompts += task.need.prompts
            pixels += task.need.latentPixels
          }
          must(
            together.length === 1 ||
              (kind === 'encode' && prompts <= limits.maxPrompts) ||
              (kind === 'denoise' && rowTokens <= limits.maxRowTokens) ||
              (kind === 'decode' && pixels <= limits.maxDecodePixels),
            'a batch passes its memory',
          )
          for (const waiting of present) {
            must(
              leader.arrivedMs <= overtakenUntilMs(waiting) + 1e-6,
              'a request is overtaken by one that came too late for that',
            )
            must(
              !isBatchWork(leader, nowMs) || isBatchWork(waiting, nowMs),
              'batch work goes before an interactive request',
            )
          }
        })
        for (const { stepsTaken, job } of tasks)
          must(stepsTaken === job.steps, 'a request took another number of steps')
      }),
      { numRuns: 10_000 },
    )
    expect(workloads).toBe(10_000)
  },
)

const task = (more: Partial<Job> = {}) =>
  new SimulatedTask({
    model: 'a',
    arrivedMs: 0,
    steps: 20,
    rows: 2,
    tokens: 256,
    prompts: 0,
    priority: 'normal',
    slackMs: undefined,
    ...more,
  })

test('the least remaining work leads, and the high priority a longer one of the same age', () => {
  const [short, long] = [task({ steps: 4 }), task({ steps: 50 })]
  expect(rank([long, short], costsOf, 0)).toEqual([short, long])
  const urgent = task({ steps: 12, priority: 'high' })
  expect(rank([short, urgent], costsOf, 0)).toEqual([urgent, short])
})

test('a request whose deadline draws near leads, and one whose deadline is lost does not', () => {
  const [short, due] = [task({ steps: 4 }), task({ steps: 50, slackMs: 50 })]
  expect(rank([short, due], costsOf, 0)).toEqual([due, short])
  expect(rank([short, due], costsOf, 51)).toEqual([short, due])
})

test('rows of one token count share a call while that pays, whatever else differs', () => {
  const together = [task({ steps: 4, rows: 1 }), task({ steps: 9 }), task({ steps: 30, priority: 'high' })]
  const other = task({ steps: 2, tokens: 1024 })
  expect(nextWork([...together, other], costsOf, 0, limits)?.tasks).toHaveLength(3)
  const linear: Costs = { ...costs, step: { baseMs: 0.1, perUnitMs: 0.05 } }
  expect(nextWork(together, () => linear, 0, limits)?.tasks).toHaveLength(1)
})

test('a batch stays within its memory, and one request alone always runs', () => {
  const many = Array.from({ length: 6 }, () => task())
  expect(nextWork(many, costsOf, 0, { ...limits, maxRowTokens: 1024 })?.tasks).toHaveLength(2)
  expect(nextWork(many, costsOf, 0, { ...limits, maxRowTokens: 1 })?.tasks).toHaveLength(1)
})

test.each([
  { kind: 'encode', job: { prompts: 2 }, limit: 'maxPrompts', unitsEach: 2 },
  { kind: 'decode', job: { steps: 0, tokens: 256 }, limit: 'maxDecodePixels', unitsEach: 1024 },
] as const)('a batch to $kind stays within its memory, and one alone always runs', (each) => {
  const many = Array.from({ length: 6 }, () => task(each.job))
  // Where a call's fixed part is all, every other one that waits joins.
  const flat: Costs = {
    ...costs,
    encode: { baseMs: 5, perUnitMs: 0 },
    decode: [{ baseMs: 2, perUnitMs: 0 }],
  }
  const workOf = (most: number) => nextWork(many, () => flat, 0, { ...limits, [each.limit]: most })
  expect(workOf(Infinity)).toMatchObject({ kind: each.kind, tasks: { length: 6 } })
  expect(workOf(3 * each.unitsEach)?.tasks).toHaveLength(3)
  expect(workOf(2 * each.unitsEach - 1)?.tasks).toHaveLength(1)
  expect(workOf(1)?.tasks).toHaveLength(1)
})
