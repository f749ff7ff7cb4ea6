/** What the policy is worth, on a device that takes just what its costs say: figures that no other process can disturb. */
import { expect, test } from 'vitest'
import { resultOf } from '../../../bench/serving/results.ts'
import {
  simulatedContinuous,
  simulatedOneAtATime,
  simulatedRequestLevel,
  simulatedSoloMs,
} from '../../../bench/serving/simulated.ts'
import { mean } from '../../../bench/serving/statistics.ts'
import { arrivalsMs, makeTrace } from '../../../bench/serving/trace.ts'
import { bucketsFor } from '../../../src/diffusion/buckets.ts'
import type { Costs } from '../../../src/engine/costs.ts'

/** Of the benchmark's model on one core, in round numbers. */
const costs: Costs = {
  loadMs: 1,
  encode: { baseMs: 0.8, perUnitMs: 0.7 },
  step: { baseMs: 0.9, perUnitMs: 0.008 },
  decode: Array.from({ length: 10 }, () => ({ baseMs: 0.05, perUnitMs: 0.002 })),
}
const engines = {
  continuous: simulatedContinuous(costs),
  requestLevel: simulatedRequestLevel(costs, 'request level', { maxBatch: 8, maxDelayMs: 50 }),
  oneAtATime: simulatedOneAtATime(costs),
}
const traces = [1, 2, 3].map((seed) =>
  makeTrace({ seed, requests: 200, model: 'serving', sizes: bucketsFor(256) }),
)
const soloMs = traces.map(({ requests }) => requests.map((request) => simulatedSoloMs(costs, request)))

async function play(engine: keyof typeof engines, load: number) {
  const plays = []
  for (const trace of traces) {
    plays.push(await engines[engine].play(trace.requests, arrivalsMs(trace, load / mean(soloMs.flat()))))
  }
  return resultOf(engines[engine], load, plays, soloMs)
}

test('one at a time, a request takes its own time after those before it', async () => {
  const [{ requests }] = traces as [(typeof traces)[number]]
  const { latenciesMs, elapsedMs } = await engines.oneAtATime.play(requests.slice(0, 2), [0, 1])
  const [first, second] = soloMs[0]!
  expect(latenciesMs[0]).toBeCloseTo(first!, 6)
  expect(latenciesMs[1]).toBeCloseTo(first! + second! - 1, 6)
  expect(elapsedMs).toBeCloseTo(first! + second!, 6)
})

test('at load 0.8 the slowdown is below half of that of engines that know whole requests only', async () => {
  const [ours, requestLevel, oneAtATime] = [
    await play('continuous', 0.8),
    await play('requestLevel', 0.8),
    await play('oneAtATime', 0.8),
  ]
  for (const { slowdown } of [requestLevel, oneAtATime]) {
    expect(ours.slowdown.p95 / slowdown.p95).toBeLessThan(0.5)
    expect(ours.slowdown.mean / slowdown.mean).toBeLessThan(0.4)
  }
})

test('at saturation batching pays', async () => {
  const [ours, oneAtATime] = [await play('continuous', Infinity), await play('oneAtATime', Infinity)]
  expect(ours.requestsPerSecond / oneAtATime.requestsPerSecond).toBeGreaterThan(1.05)
  expect(ours.device?.meanBatchRows).toBeGreaterThan(3)
})
