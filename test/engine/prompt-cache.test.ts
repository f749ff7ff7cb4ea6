import { expect, test } from 'vitest'
import { PromptCache } from '../../src/engine/prompt-cache.ts'

const ids = (i: number) => Int32Array.of(i, i >> 8, 1)
const conditions = () => ({ hidden: new Float32Array(256), mask: new Float32Array(8) })

test('over 100,000 distinct prompts the bytes stay under the bound, and the latest are the ones kept', () => {
  const bound = 1_000_000
  const cache = new PromptCache(bound)
  let most = 0
  for (let i = 0; i < 100_000; i++) {
    cache.set(ids(i), conditions())
    most = Math.max(most, cache.bytes)
  }
  expect(most).toBeLessThanOrEqual(bound)
  expect(cache.bytes).toBeGreaterThan(bound * 0.99)
  expect(cache.has(ids(99_999))).toBe(true)
  expect(cache.has(ids(0))).toBe(false)
})

test('the least recently used leaves first, and a use counts', () => {
  const cache = new PromptCache(2_200) // two entries
  cache.set(ids(1), conditions())
  cache.set(ids(2), conditions())
  expect(cache.get(ids(1))).toBeDefined()
  cache.set(ids(3), conditions())
  expect([1, 2, 3].map((i) => cache.has(ids(i)))).toEqual([true, false, true])
  expect(cache.hits).toBe(1)
})

test('a pinned embedding never leaves, and one larger than the bound is not kept', () => {
  const cache = new PromptCache(1_100)
  cache.pin(ids(0), conditions())
  for (let i = 1; i < 10; i++) cache.set(ids(i), conditions())
  expect(cache.has(ids(0))).toBe(true)
  cache.set(ids(50), { hidden: new Float32Array(4096), mask: new Float32Array(8) })
  expect(cache.has(ids(50))).toBe(false)
})
