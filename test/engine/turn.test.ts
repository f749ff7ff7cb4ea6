/** Who goes next, requests or what is done besides: pure, on a simulated clock. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  nextTurn,
  nothingOwed,
  owedAfterRequests,
  owedAfterUse,
  sharesWith,
  windowMs,
} from '../../src/engine/turn.ts'

const all = ['training', 'assistance', 'errand'] as const

test('requests go first, unless something is owed its share', () => {
  expect(nextTurn('waiting', all, nothingOwed)).toBe('requests')
  expect(nextTurn('waiting', all, { ...nothingOwed, training: 1 })).toBe('training')
  expect(nextTurn('waiting', ['training'], { ...nothingOwed, errand: 1 })).toBe('requests')
  expect(nextTurn('waiting', all, { ...nothingOwed, errand: 1, training: 1 })).toBe('errand')
})

test('without requests errands go first, then micro-batches of others, then the job', () => {
  expect(nextTurn('none', all, nothingOwed)).toBe('errand')
  expect(nextTurn('none', ['training', 'assistance'], nothingOwed)).toBe('assistance')
  expect(nextTurn('none', ['training'], { ...nothingOwed, training: -windowMs })).toBe('training')
  expect(nextTurn('none', [], nothingOwed)).toBe('idle')
})

const circumstances = fc.record({
  share: fc.double({ min: 0, max: 0.9, noNaN: true }),
  requestMs: fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 20 }),
  microStepMs: fc.integer({ min: 1, max: 400 }),
  owedMs: fc.integer({ min: -windowMs, max: 0 }),
})

test('while both have work the job gets its share of any time, but for one unit and what it had too much of before', () => {
  fc.assert(
    fc.property(circumstances, ({ share, requestMs, microStepMs, owedMs }) => {
      const shares = sharesWith(share)
      let owed = { ...nothingOwed, training: owedMs }
      let [trainedMs, totalMs, least, most] = [0, 0, Infinity, -Infinity]
      for (let turn = 0; turn < 500; turn++) {
        const isTraining = nextTurn('waiting', ['training'], owed) === 'training'
        const tookMs = isTraining ? microStepMs : requestMs[turn % requestMs.length]!
        owed = isTraining
          ? owedAfterUse(owed, tookMs, 'training', shares)
          : owedAfterRequests(owed, tookMs, ['training'], shares)
        totalMs += tookMs
        if (isTraining) trainedMs += tookMs
        least = Math.min(least, trainedMs - share * totalMs)
        most = Math.max(most, trainedMs - share * totalMs)
      }
      expect(least).toBeGreaterThanOrEqual(owedMs - share * 400 - 1e-6)
      expect(most).toBeLessThanOrEqual(microStepMs)
    }),
  )
})

test('without a share a job never goes before requests', () => {
  const owed = owedAfterRequests(nothingOwed, 1e9, all, sharesWith(0))
  expect(nextTurn('waiting', ['training', 'assistance'], owed)).toBe('requests')
})

test('what could not have run is owed nothing', () => {
  expect(owedAfterRequests(nothingOwed, 1_000, ['errand'], sharesWith(0.5))).toEqual({
    ...nothingOwed,
    errand: 100,
  })
})

test('what a job got while nobody else was there counts against it for a bounded time', () => {
  const shares = sharesWith(0.5)
  let owed = nothingOwed
  for (let hours = 0; hours < 1000; hours++) owed = owedAfterUse(owed, 3_600_000, 'training', shares)
  let servedMs = 0
  while (nextTurn('waiting', ['training'], owed) === 'requests') {
    owed = owedAfterRequests(owed, 100, ['training'], shares)
    servedMs += 100
  }
  expect(servedMs).toBeLessThanOrEqual(windowMs / 0.5 + 100)
})
