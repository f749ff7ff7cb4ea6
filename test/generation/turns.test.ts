import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { admit, howManyFit, rowTokensOf, turnOf } from '../../src/generation/turns.ts'
import { paintModel } from './paint-pool.ts'
import { someParameters } from './parameters.ts'

const minuteMs = 60_000
const noon = new Date('2026-03-01T12:00:00Z')
const at = (minutes: number) => new Date(noon.getTime() + minutes * minuteMs)

describe('a turn', () => {
  const turn = (changes: Partial<Parameters<typeof turnOf>[0]>) =>
    turnOf({ createdAt: noon, priority: 'normal', deadline: undefined, expectedMs: minuteMs, ...changes })

  test.each([
    ['is the arrival', {}, noon],
    ['comes 10 minutes earlier with high priority', { priority: 'high' }, at(-10)],
    ['comes 10 minutes later with low priority', { priority: 'low' }, at(10)],
    ['leaves time for the work before a deadline', { priority: 'low', deadline: at(5) }, at(4)],
    ['is not put off by a deadline', { deadline: at(60) }, noon],
    ['with a deadline long past is no earlier than high priority makes it', { deadline: at(-600) }, at(-10)],
  ] as const)('%s', (_, changes, expected) => {
    expect(turn(changes)).toEqual(expected)
  })

  test('is overtaken by nothing that arrives 20 minutes later, whatever its priority and deadline', () => {
    const arrival = fc.record({
      priority: fc.constantFrom('low', 'normal', 'high'),
      deadline: fc.option(
        fc.integer({ min: -1e8, max: 1e8 }).map((ms) => new Date(noon.getTime() + ms)),
        {
          nil: undefined,
        },
      ),
      expectedMs: fc.double({ min: 0, max: 1e7, noNaN: true }),
    })
    fc.assert(
      fc.property(arrival, arrival, fc.integer({ min: 1, max: 1e7 }), (early, late, moreMs) => {
        const later = new Date(noon.getTime() + 20 * minuteMs + moreMs)
        const [first, second] = [turnOf({ ...early, createdAt: noon }), turnOf({ ...late, createdAt: later })]
        expect(first.getTime()).toBeLessThan(second.getTime())
      }),
      { numRuns: 2000 },
    )
  })
})

describe('a window', () => {
  const window = { workMs: 30_000, images: 64 }
  const nothing = { expectedMs: 0, count: 0 }
  const load = (expectedMs: number, count = 1) => ({ expectedMs, count })

  test.each([
    ['takes until there is enough work', Array(10).fill(load(8000)), nothing, 4],
    ['takes until there are enough pictures', Array(100).fill(load(1)), nothing, 64],
    ['counts every picture of a generation', Array(100).fill(load(1, 10)), nothing, 6],
    ['takes nothing while it is full', [load(1)], load(30_000), 0],
    ['is topped up', [load(5000), load(5000), load(5000)], load(22_000), 2],
    ['takes one in any case when nothing is held', [load(1e9, 100), load(1)], nothing, 1],
    ['takes nothing from an empty queue', [], nothing, 0],
  ])('%s', (_, waiting, held, expected) => {
    expect(howManyFit(waiting, held, window)).toBe(expected)
  })
})

describe('admission', () => {
  const asked = { devices: 2, priority: 'normal', maxWaitMs: 600_000 } as const

  test('ends where the work of all, over the devices, is more than the limit', () => {
    expect(() => admit({ ...asked, workMs: 1_200_000 })).not.toThrow()
    expect(() => admit({ ...asked, workMs: 1_200_001 })).toThrow('at most 600 s')
  })

  test('says when enough will be done', () => {
    const refusal = (workMs: number) => {
      try {
        admit({ ...asked, workMs })
      } catch (error) {
        return error
      }
      return undefined
    }
    expect(refusal(1_200_001)).toMatchObject({ code: 'queue_full', retryAfterSeconds: 1 })
    expect(refusal(1_260_000)).toMatchObject({ code: 'queue_full', retryAfterSeconds: 30 })
  })

  test('of high priority goes up to twice the limit', () => {
    expect(() => admit({ ...asked, workMs: 2_400_000, priority: 'high' })).not.toThrow()
    expect(() => admit({ ...asked, workMs: 2_400_001, priority: 'high' })).toThrow('at most 1200 s')
  })
})

test('row-tokens count pictures, tokens of the bucket, and two rows where guidance is on', () => {
  const rowTokens = (changes: Parameters<typeof someParameters>[0]) =>
    rowTokensOf(someParameters(changes), paintModel)
  expect(rowTokens({ guidanceScale: 1 })).toBe(16)
  expect(rowTokens({ guidanceScale: 4.5 })).toBe(32)
  expect(rowTokens({ guidanceScale: 4.5, count: 3 })).toBe(96)
})
