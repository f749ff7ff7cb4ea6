import { expect, test } from 'vitest'
import { checkProvider } from '../../src/engine/provider-check.ts'

test('the CPU provider computes every fused operator as the elementary ones do', async () => {
  const { lowering, differences } = await checkProvider({ provider: 'cpu', threads: 1 })
  expect(lowering).toBe('serve')
  expect(differences).toHaveLength(9)
  expect(differences.filter(({ relative }) => !(relative < 1e-5))).toEqual([])
})
