/** What `atelier parity` prints. */
import { expect, test } from 'vitest'
import { parityLines } from '../../src/commands/parity.ts'

const comparison = (name: string, strain: number, group?: string) => ({
  name,
  group,
  maxAbsolute: strain * 1e-4,
  maxRelative: strain * 1e-5,
  bound: 'abs <= 1e-4',
  strain,
  isWithin: strain <= 1,
})

test('a group is told by its worst member, and whatever is off by its own name', () => {
  const comparisons = [
    comparison('vae.mean', 0.25),
    comparison('grad.a', 0.125, 'grad.*'),
    comparison('grad.b', 0.5, 'grad.*'),
    comparison('grad.c', 2, 'grad.*'),
  ]
  expect(parityLines({ comparisons, uncompared: ['vae.surprise'] })).toEqual([
    'vae.mean      abs 2.50e-5  rel 2.50e-6  bound abs <= 1e-4  ok',
    'grad.*        abs 5.00e-5  rel 5.00e-6  bound abs <= 1e-4  ok  worst of 2: grad.b',
    'grad.c        abs 2.00e-4  rel 2.00e-5  bound abs <= 1e-4  FAIL',
    'vae.surprise  held against nothing  FAIL',
    '2 FAILED',
  ])
  expect(parityLines({ comparisons: comparisons.slice(0, 1), uncompared: [] })).toEqual([
    'vae.mean  abs 2.50e-5  rel 2.50e-6  bound abs <= 1e-4  ok',
    'all 1 within their bounds',
  ])
})
