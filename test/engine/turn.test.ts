/** Who goes next, requests or what is done besides: pure, on a simulated clock. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  errandPatienceMs,
  nextTurn,
  owedAfterServing,
  owedAfterTraining,
  windowMs,
} from '../../src/engine/turn.ts'

const training = { kind: 'training', waitedMs: 1e9 } as const
const assistance = { kind: 'assistance', waitedMs: 1e9 } as const
const errand = (waitedMs: number) => ({ kind: 'errand', waitedMs }) as const

test('requests go first, whatever else waits and however long', () => {
  expect(nextTurn('waiting', [training, assistance, errand(0)], 0)).toBe('requests')
  expect(nextTurn('waiting', [training], -windowMs)).toBe('requests')
})

test('without requests errands go first, then micro-batches of others, then the job', () => {
  expect(nextTurn('none', [training, assistance, errand(0)], 0)).toEqual(errand(0))
  expect(nextTurn('none', [training, assistance], 0)).toBe(assistance)
  expect(nextTurn('none', [training], -windowMs)).toBe(training)
  expect(nextTurn('none', [], 0)).toBe('idle')
})

test('an errand that waited for its patience goes once before requests', () => {
  expect(nextTurn('waiting', [errand(errandPatienceMs - 1)], 0)).toBe('requests')
  expect(nextTurn('waiting', [errand(errandPatienceMs)], 0)).toEqual(errand(errandPatienceMs))
})

const units = fc.record({
  share: fc.double({ min: 0, max: 0.9, noNaN: true }),
  requestMs: fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 20 }),
  microStepMs: fc.integer({ min: 1, max: 400 }),
  startOwedMs: fc.integer({ min: -windowMs, max: 0 }),
})

test('while both have work the job gets its share of any time, but for one unit and what it had too much of before', () => {
  fc.assert(
    fc.property(units, ({ share, requestMs, microStepMs, startOwedMs }) => {
      let [owedMs, trainedMs, totalMs] = [startOwedMs, 0, 0]
      let [least, most] = [Infinity, -Infinity]
      for (let turn = 0; turn < 500; turn++) {
        const isTraining = nextTurn('waiting', [training], owedMs) === training
        const tookMs = isTraining ? microStepMs : requestMs[turn % requestMs.length]!
        owedMs = isTraining
          ? owedAfterTraining(owedMs, tookMs, share)
          : owedAfterServing(owedMs, tookMs, share)
        totalMs += tookMs
        if (isTraining) trainedMs += tookMs
        least = Math.min(least, trainedMs - share * totalMs)
        most = Math.max(most, trainedMs - share * totalMs)
      }
      expect(least).toBeGreaterThanOrEqual(startOwedMs - share * 400 - 1e-6)
      expect(most).toBeLessThanOrEqual(microStepMs)
    }),
  )
})

test('what a job got while nobody else was there counts against it for a bounded time', () => {
  let owedMs = 0
  for (let hours = 0; hours < 1000; hours++) owedMs = owedAfterTraining(owedMs, 3_600_000, 0.5)
  let servedMs = 0
  while (nextTurn('waiting', [training], owedMs) === 'requests') {
    owedMs = owedAfterServing(owedMs, 100, 0.5)
    servedMs += 100
  }
  expect(servedMs).toBeLessThanOrEqual(windowMs / 0.5 + 100)
})
