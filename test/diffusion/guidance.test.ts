import { describe, expect, test } from 'vitest'
import { guide, takeNoisePrediction } from '../../src/diffusion/guidance.ts'

// Two tokens of two values that predict noise and two that predict variance.
const layout = { width: 2, stride: 4 }
const conditional = Float32Array.of(1, 2, 90, 91, 3, 4, 92, 93)
const unconditional = Float32Array.of(0.5, 1, 80, 81, 5, 4, 82, 83)

describe('guidance', () => {
  test('goes from the unconditional through the conditional prediction, leaving the variance out', () => {
    const out = new Float32Array(4)
    guide(conditional, unconditional, 4.5, layout, out)
    expect([...out]).toEqual([2.75, 5.5, -4, 4])
  })

  test('of scale 1 is the conditional prediction, of scale 0 the unconditional one', () => {
    const out = new Float32Array(4)
    guide(conditional, unconditional, 1, layout, out)
    expect([...out]).toEqual([1, 2, 3, 4])
    guide(conditional, unconditional, 0, layout, out)
    expect([...out]).toEqual([0.5, 1, 5, 4])
  })

  test.each(['conditional', 'unconditional'])('may write over the %s prediction', (which) => {
    const rows = { conditional: conditional.slice(), unconditional: unconditional.slice() }
    const out = rows[which as keyof typeof rows].subarray(0, 4)
    guide(rows.conditional, rows.unconditional, 4.5, layout, out)
    expect([...out]).toEqual([2.75, 5.5, -4, 4])
  })

  test('of rows that do not fit the layout is refused', () => {
    expect(() => guide(conditional, unconditional, 2, layout, new Float32Array(3))).toThrow(RangeError)
    expect(() => guide(conditional, unconditional.subarray(1), 2, layout, new Float32Array(4))).toThrow(
      RangeError,
    )
  })
})

test('without guidance the noise prediction is taken as it is', () => {
  const out = new Float32Array(4)
  takeNoisePrediction(conditional, layout, out)
  expect([...out]).toEqual([1, 2, 3, 4])
  takeNoisePrediction(out.slice(), { width: 2, stride: 2 }, out)
  expect([...out]).toEqual([1, 2, 3, 4])
})
