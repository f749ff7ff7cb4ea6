import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { MersenneTwister } from '../../src/diffusion/mersenne-twister.ts'
import { callMs, LineFit, pays } from '../../src/engine/costs.ts'

describe('a fit', () => {
  test('finds the line that calls were drawn from', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.1, max: 50, noNaN: true }),
        fc.double({ min: 0.001, max: 5, noNaN: true }),
        (baseMs, perUnitMs) => {
          const at = (units: number) => ({ units, ms: callMs({ baseMs, perUnitMs }, units) })
          const { line } = new LineFit([at(1), at(2), at(4), at(8)])
          for (const units of [1, 3, 8]) expect(callMs(line, units) / at(units).ms).toBeCloseTo(1, 6)
        },
      ),
    )
  })

  test('never has a negative part', () => {
    const point = fc.record({
      units: fc.integer({ min: 1, max: 4096 }),
      ms: fc.double({ min: 0.01, max: 1e5, noNaN: true }),
    })
    fc.assert(
      fc.property(
        fc.array(point, { minLength: 1, maxLength: 8 }),
        fc.array(point, { maxLength: 30 }),
        (prior, live) => {
          const fit = new LineFit(prior)
          for (const { units, ms } of live) fit.observe(units, ms)
          expect(fit.line.baseMs).toBeGreaterThanOrEqual(0)
          expect(fit.line.perUnitMs).toBeGreaterThanOrEqual(0)
          expect(Number.isFinite(callMs(fit.line, 100))).toBe(true)
        },
      ),
    )
  })

  test('follows a device that became slower, for the size that it sees', () => {
    const fit = new LineFit([
      { units: 100, ms: 10 },
      { units: 200, ms: 20 },
    ])
    for (let i = 0; i < 50; i++) fit.observe(100, 30)
    expect(callMs(fit.line, 100)).toBeGreaterThan(20)
  })
})

test('a machine that is busy with other things slows the line down and does not bend it', () => {
  const own = { baseMs: 10, perUnitMs: 1 }
  const fit = new LineFit([10, 20, 40].map((units) => ({ units, ms: callMs(own, units) })))
  // Calls of the two smallest sizes only, each held up by its own amount: twice to four times as long as on an idle machine.
  const random = new MersenneTwister(1)
  for (let call = 0; call < 500; call++) {
    const units = call % 3 === 0 ? 10 : 20
    fit.observe(units, callMs(own, units) * (2 + (2 * random.next()) / 2 ** 32))
  }
  const { line } = fit
  expect(callMs(line, 20) / callMs(own, 20)).toBeGreaterThan(2.5)
  expect(callMs(line, 20) / callMs(own, 20)).toBeLessThan(3.5)
  expect(line.baseMs / line.perUnitMs).toBeGreaterThan(5)
  expect(line.baseMs / line.perUnitMs).toBeLessThan(20)
})

test('a merger pays when what it saves to all who wait is worth the wait of its members', () => {
  expect(pays({ baseMs: 10, perUnitMs: 1 }, 20, 2)).toBe(true)
  expect(pays({ baseMs: 0.5, perUnitMs: 1 }, 20, 2)).toBe(false)
  expect(pays({ baseMs: 0.5, perUnitMs: 1 }, 20, 20)).toBe(true)
  expect(pays({ baseMs: 0, perUnitMs: 1 }, 20, 1000)).toBe(false)
})
