import { expect, test } from 'vitest'
import { arrivalsMs, makeTrace } from '../../../bench/serving/trace.ts'
import { bucketsFor } from '../../../src/diffusion/buckets.ts'

const settings = { seed: 3, requests: 4000, model: 'serving', sizes: bucketsFor(256) }
const trace = makeTrace(settings)

test('the seed decides everything that is asked for, and when', () => {
  expect(makeTrace(settings)).toEqual(trace)
  const other = makeTrace({ ...settings, seed: 4 })
  expect(other.gaps).not.toEqual(trace.gaps)
  expect(other.requests.map(({ steps }) => steps)).not.toEqual(trace.requests.map(({ steps }) => steps))
})

test('a longer trace begins as the shorter one does', () => {
  const short = makeTrace({ ...settings, requests: 10 })
  expect(short.requests).toEqual(trace.requests.slice(0, 10))
  expect(short.gaps).toEqual(trace.gaps.slice(0, 10))
})

test('the mix: four step counts alike, all 33 aspect ratios, guidance on for 80 %, no prompt twice', () => {
  const share = (of: (typeof trace.requests)[number][]) => of.length / trace.requests.length
  for (const steps of [4, 8, 20, 50])
    expect(share(trace.requests.filter((one) => one.steps === steps))).toBeCloseTo(0.25, 1)
  expect(new Set(trace.requests.map(({ width, height }) => `${width}x${height}`)).size).toBe(33)
  expect(share(trace.requests.filter(({ guidanceScale }) => guidanceScale > 1))).toBeCloseTo(0.8, 1)
  expect(new Set(trace.requests.map(({ prompt }) => prompt)).size).toBe(4000)
})

test('arrivals are a Poisson process: exponential gaps of the mean that the rate asks for', () => {
  const arrivals = arrivalsMs(trace, 1 / 50)
  const gaps = arrivals.map((ms, index) => ms - (arrivals[index - 1] ?? 0))
  const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length
  expect(mean / 50).toBeCloseTo(1, 1)
  // The share of an exponential distribution that is above its mean.
  expect(gaps.filter((gap) => gap > 50).length / gaps.length).toBeCloseTo(Math.exp(-1), 1)
  expect(arrivals).toEqual(arrivals.toSorted((a, b) => a - b))
})

test('at an infinite rate all are there at once', () => {
  expect(new Set(arrivalsMs(trace, Infinity))).toEqual(new Set([0]))
})
