import { describe, expect, test } from 'vitest'
import { checkProvider, compareLowerings } from '../../src/engine/provider-check.ts'
import { float32, SessionError, type Tensor } from '../../src/engine/session.ts'

test('the CPU provider computes every fused operator as the elementary ones do', async () => {
  const check = await checkProvider({ provider: 'cpu', threads: 1 })
  expect(check).not.toHaveProperty('reason')
  const differences = check.lowering === 'serve' ? check.differences : []
  expect(differences).toHaveLength(9)
  expect(differences.filter(({ relative }) => !(relative < 1e-5))).toEqual([])
})

const outputs = (...values: number[]): Record<string, Tensor> => ({
  right: float32(Float32Array.of(1, 2), 2),
  attention: float32(Float32Array.from(values), values.length),
})

test('what reduced precision explains is no disagreement', async () => {
  const check = await compareLowerings('abacus', (lowering) =>
    Promise.resolve(lowering === 'plain' ? outputs(1, 4) : outputs(1.01, 4)),
  )
  expect(check).toMatchObject({
    lowering: 'serve',
    differences: [{ relative: 0 }, { primitive: 'attention' }],
  })
})

describe('the plain lowering is used where the fused operators', () => {
  test.each([
    ['are wrong', [1, 4.1], '2.5e-2'],
    ['give what is no number', [1, Number.NaN], 'NaN'],
    ['give too little', [1], 'NaN'],
  ])('%s', async (_, wrong, off) => {
    const check = await compareLowerings('abacus', (lowering) =>
      Promise.resolve(lowering === 'plain' ? outputs(1, 4) : outputs(...wrong)),
    )
    expect(check).toEqual({
      lowering: 'plain',
      reason: `the fused operators of abacus disagree with the plain ones (relative to the largest value: attention by ${off})`,
    })
  })

  test('cannot run at all', async () => {
    const check = await compareLowerings('abacus', (lowering) =>
      lowering === 'plain'
        ? Promise.resolve(outputs(1, 4))
        : Promise.reject(new SessionError('runtime_failed', 'no kernel for MultiHeadAttention')),
    )
    expect(check).toEqual({
      lowering: 'plain',
      reason: 'the fused operators of abacus do not run (no kernel for MultiHeadAttention)',
    })
  })

  test('and the plain ones cannot run: then neither can the provider', async () => {
    const failure = new SessionError('runtime_failed', 'out of memory')
    await expect(compareLowerings('abacus', () => Promise.reject(failure))).rejects.toBe(failure)
  })
})
