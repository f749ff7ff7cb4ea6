/** What goes on between a job's home and the devices that help it, over every order in which things can happen. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Assistance, type Helper } from '../../src/engine/assistance.ts'
import { Orders } from '../../src/engine/orders.ts'
import type { TrainingParentMessage } from '../../src/engine/training-protocol.ts'
import type { MicroBatchOrder } from '../../src/training/host.ts'
import type { TrainingJob } from '../../src/training/job.ts'

const job = { id: 'job', folder: '/none' } as TrainingJob
const ordersOf = (step: number, count: number): MicroBatchOrder[] =>
  Array.from({ length: count }, (_, microBatch) => ({ stage: 0, step, microBatch, weights: `w${step}` }))

type Assist = Extract<TrainingParentMessage, { type: 'assist' }>

class Machine implements Helper {
  readonly name: string
  isFree: boolean
  received: TrainingParentMessage[] = []
  constructor(name: string, isFree: boolean) {
    this.name = name
    this.isFree = isFree
  }
  send(message: TrainingParentMessage): void {
    this.received.push(message)
  }
  get assists(): Assist[] {
    return this.received.filter((message) => message.type === 'assist')
  }
}

/** A home whose messages arrive when `deliver` is called, as between two units of work. */
function scene(helpers: number, clock = { nowMs: 0 }) {
  const home = new Machine('home', false)
  const others = Array.from({ length: helpers }, (_, index) => new Machine(`helper ${index}`, true))
  const assistance = new Assistance(
    [home, ...others],
    () => undefined,
    () => clock.nowMs,
  )
  const orders = new Orders(job.id, (message) => {
    if (message.type !== 'training' && message.type !== 'errand-ended') assistance.hear(home, message)
  })
  const deliver = () => {
    for (const message of home.received.splice(0))
      if (message.type === 'order') orders.hear(message.round, message.microBatch, message.news)
  }
  const answer = (helper: Machine, result: 'done' | 'declined' | 'failed') => {
    const { round, order } = helper.assists.at(-1)!
    helper.received = []
    const results = {
      done: { kind: 'done', file: `${order.weights}-${order.microBatch}` },
      declined: { kind: 'declined' },
      failed: { kind: 'failed', message: 'out of memory' },
    } as const
    const { microBatch } = order
    assistance.hear(helper, { type: 'assisted', job: job.id, round, microBatch, result: results[result] })
  }
  assistance.begin(job, home)
  return { home, others, assistance, orders, deliver, answer }
}

test('the last order is given to whoever is free, and what the home has taken to nobody', async () => {
  const { others, orders, deliver, answer } = scene(2)
  orders.offer(ordersOf(1, 4))
  deliver()
  expect(others.map(({ assists }) => assists.map(({ order }) => order.microBatch))).toEqual([[3], [2]])
  expect(orders.take(0)).toBe('open')
  const third = orders.take(3)
  answer(others[0]!, 'done')
  expect(others[0]!.assists.map(({ order }) => order.microBatch)).toEqual([1])
  deliver()
  expect(await third).toBe('w1-3')
  expect(orders.take(1)).toBeInstanceOf(Promise)
})

test('a device that serves requests is left alone, and one that declined is asked again when it is free', () => {
  const { others, assistance, orders, deliver, answer } = scene(1)
  const [helper] = others as [Machine]
  orders.offer(ordersOf(1, 2))
  deliver()
  helper.isFree = false
  answer(helper, 'declined')
  expect(helper.assists).toEqual([])
  deliver()
  helper.isFree = true
  assistance.distribute()
  expect(helper.assists.map(({ order }) => order.microBatch)).toEqual([1])
})

test('a home hears when nobody could help any more, and when somebody can again', () => {
  const { home, others, assistance, orders } = scene(1)
  const told = () =>
    home.received.flatMap((message) => (message.type === 'helpers' ? [message.free] : [])).at(-1)
  others[0]!.isFree = false
  orders.offer(ordersOf(1, 2))
  expect(told()).toBe('nobody')
  others[0]!.isFree = true
  assistance.distribute()
  expect(told()).toBe('someone')
})

test('a helper that is slower than the home is for all that is left of a step is left out of its end', () => {
  const clock = { nowMs: 0 }
  const { others, orders, deliver, answer } = scene(1, clock)
  const [helper] = others as [Machine]
  const takenOf = (step: number) => {
    orders.offer(ordersOf(step, 8))
    deliver()
    let taken = 0
    // The home takes 10 ms for one, the helper 35.
    for (let microBatch = 0, helperSinceMs = clock.nowMs; microBatch < 8; microBatch++) {
      if (orders.take(microBatch) !== 'open') break
      clock.nowMs += 10
      if (helper.assists.length === 0 || clock.nowMs < helperSinceMs + 35) continue
      answer(helper, 'done')
      helperSinceMs = clock.nowMs
      taken += 1
      deliver()
    }
    if (helper.assists.length > 0) answer(helper, 'done')
    return taken
  }
  takenOf(1)
  takenOf(2)
  // After 40 ms three are open, for which the home needs 30 ms and the helper 40 for one.
  expect(takenOf(3)).toBe(1)
  expect(helper.assists).toEqual([])
})

test('of two micro-batches a helper takes one only while it is no slower than the home for both', () => {
  const clock = { nowMs: 0 }
  const { others, orders, deliver, answer } = scene(1, clock)
  const [helper] = others as [Machine]
  const tookPart = [35, 35, 35, 15, 15].map((helperMs, index) => {
    orders.offer(ordersOf(index, 2))
    deliver()
    const isAtWork = helper.assists.length > 0
    for (const microBatch of [0, 1]) if (orders.take(microBatch) === 'open') clock.nowMs += 10
    clock.nowMs += helperMs - 10
    if (isAtWork) answer(helper, 'done')
    return isAtWork
  })
  // The first opens what it needs, and is not counted.
  expect(tookPart).toEqual([true, true, false, false, false])
})

test('what a device that is gone had taken rejects for whoever waits for it', async () => {
  const { others, assistance, orders, deliver } = scene(1)
  orders.offer(ordersOf(1, 2))
  deliver()
  const waiting = orders.take(1) as Promise<string>
  others[0]!.isFree = false
  assistance.died(others[0]!)
  deliver()
  await expect(waiting).rejects.toThrow('helper 0 is gone')
})

test('a device that could not help is not asked again', () => {
  const { others, orders, deliver, answer } = scene(1)
  orders.offer(ordersOf(1, 2))
  answer(others[0]!, 'failed')
  deliver()
  expect(others[0]!.assists).toEqual([])
  expect(orders.take(1)).toBe('open')
})

test('what belongs to an earlier step, or to an earlier home, never counts for a later one', async () => {
  const { home, others, assistance, orders, deliver, answer } = scene(1)
  const [helper] = others as [Machine]
  orders.offer(ordersOf(1, 2))
  orders.offer(ordersOf(2, 2))
  deliver()
  answer(helper, 'done') // of step 1
  deliver()
  expect(helper.assists.map(({ order }) => [order.weights, order.microBatch])).toEqual([['w2', 1]])
  const second = orders.take(1) as Promise<string>

  assistance.end(job.id)
  assistance.begin(job, home)
  const again = new Orders(job.id, (message) => {
    if (message.type === 'offer') assistance.hear(home, message)
  })
  again.offer(ordersOf(7, 2))
  again.offer(ordersOf(8, 2)) // the round that the earlier home had reached
  answer(helper, 'done') // of step 2, for the earlier home
  const told = home.received.flatMap((message) => (message.type === 'order' ? [message.news] : []))
  expect(told).toEqual([{ kind: 'taken' }])
  expect(helper.assists.map(({ order }) => order.weights)).toEqual(['w8'])
  second.catch(() => undefined)
})

const happenings = fc.array(
  fc.record({
    what: fc.constantFrom('deliver', 'done', 'declined', 'died', 'free', 'busy', 'take' as const),
    which: fc.nat({ max: 2 }),
  }),
  { maxLength: 60 },
)

test('however helpers come, go, decline and answer, every micro-batch of a step is there in the end, of that step', async () => {
  await fc.assert(
    fc.asyncProperty(happenings, fc.integer({ min: 1, max: 6 }), async (script, count) => {
      const { others, assistance, orders, deliver, answer } = scene(3)
      let moment = 0
      const play = () => {
        const next = script[moment++]
        if (!next) return
        const helper = others[next.which]!
        const isAtWork = helper.assists.length > 0
        if (next.what === 'deliver') deliver()
        else if (next.what === 'free' || next.what === 'busy') {
          helper.isFree = next.what === 'free'
          assistance.distribute()
        } else if (next.what === 'died') {
          helper.received = []
          assistance.died(helper)
        } else if (next.what !== 'take' && isAtWork) answer(helper, next.what)
      }
      for (let step = 1; step <= 3; step++) {
        orders.offer(ordersOf(step, count))
        for (let microBatch = 0; microBatch < count; microBatch++) {
          for (let i = 0; i < 4; i++) play()
          const taken = orders.take(microBatch)
          if (taken === 'open') continue
          const settled = taken.then(
            (file) => file,
            () => 'computed at home',
          )
          // In the end every helper that is at work answers or dies.
          for (const helper of others) if (helper.assists.length > 0) answer(helper, 'done')
          deliver()
          expect(['computed at home', `w${step}-${microBatch}`]).toContain(await settled)
        }
      }
    }),
    { numRuns: 500 },
  )
})
