import { expect, test } from 'vitest'
import { formBatch, type Waiting } from '../../../bench/serving/dynamic-batching.ts'

const limits = { maxBatch: 3, maxDelayMs: 50 }
const keyOf = (request: string) => request[0]!
const queue = (...arrivals: [string, number][]): Waiting<string>[] =>
  arrivals.map(([request, arrivedMs]) => ({ request, arrivedMs }))
const decide = (waiting: Waiting<string>[], nowMs: number) => {
  const decision = formBatch(waiting, keyOf, nowMs, limits)
  return decision.kind === 'run' ? decision.batch.map(({ request }) => request) : decision
}

test('nothing waits: nothing to do', () => {
  expect(decide([], 0)).toEqual({ kind: 'idle' })
})

test('a batch waits for more until its oldest request has waited for the delay', () => {
  const waiting = queue(['a1', 100], ['b1', 110], ['a2', 120])
  expect(decide(waiting, 149)).toEqual({ kind: 'wait', untilMs: 150 })
  expect(decide(waiting, 150)).toEqual(['a1', 'a2'])
})

test('a full batch does not wait, and leaves what is over the limit', () => {
  expect(decide(queue(['b1', 0], ['a1', 1], ['a2', 2], ['a3', 3], ['a4', 4]), 5)).toEqual(['a1', 'a2', 'a3'])
})

test('of several batches that may run, the one with the oldest request does', () => {
  expect(decide(queue(['b1', 0], ['a1', 1], ['a2', 2], ['a3', 3], ['b2', 4]), 60)).toEqual(['b1', 'b2'])
})

test('one at a time is a batch of one without delay: first come, first served', () => {
  const waiting = queue(['b1', 0], ['a1', 0], ['a2', 0])
  const decision = formBatch(waiting, keyOf, 0, { maxBatch: 1, maxDelayMs: 0 })
  expect(decision).toEqual({ kind: 'run', batch: [waiting[0]] })
})
