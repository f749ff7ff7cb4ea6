import { expect, test } from 'vitest'
import { profileOf, runsOf, type TraceEvent } from '../../../bench/model/profile.ts'

const kernel = (name: string, op_name: string, ts: number, dur: number): TraceEvent => ({
  cat: 'Node',
  name: `${name}_kernel_time`,
  ts,
  dur,
  args: { op_name },
})
const run = (ts: number, dur: number): TraceEvent => ({ cat: 'Session', name: 'model_run', ts, dur })

test('a run has the operators that ran while it lasted', () => {
  const trace = [
    kernel('a/Gemm_1', 'Gemm', 110, 20),
    run(100, 50),
    kernel('a/Gemm_1', 'Gemm', 210, 30),
    run(200, 50),
  ]
  expect(runsOf(trace.toReversed()).map((events) => events.map(({ dur }) => dur))).toEqual([[20], [30]])
})

test('blocks count as one, the costliest comes first, and times are of one call', () => {
  const events = [
    kernel('blocks.0.attn.to_q/Gemm_4', 'Gemm', 0, 2000),
    kernel('blocks.11.attn.to_q/Gemm_44', 'Gemm', 0, 4000),
    kernel('blocks.0.norm1/Mul_5', 'Mul', 0, 8000),
  ]
  const { byOperator, byLayer } = profileOf(events, 2)
  expect([...byOperator]).toEqual([
    ['Mul', 4],
    ['Gemm', 3],
  ])
  expect([...byLayer]).toEqual([
    ['blocks.*.norm1 Mul', 4],
    ['blocks.*.attn.to_q Gemm', 3],
  ])
})
