/** The policy where only one stage of a model is in memory at a time: what was loaded is used before something else is. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { nextWork, type Candidate, type Limits, type WorkKind } from '../../src/engine/batch.ts'
import type { Costs, Need } from '../../src/engine/costs.ts'

const costs: Costs = {
  loadMs: 5_000,
  encode: { baseMs: 50, perUnitMs: 500 },
  step: { baseMs: 20, perUnitMs: 0.5 },
  decode: [{ baseMs: 2, perUnitMs: 0.05 }],
}
const limits: Limits = { maxRowTokens: Infinity, maxPrompts: Infinity, maxDecodePixels: Infinity }

type Stage = 'encode' | 'denoise'

class Request implements Candidate {
  readonly arrivedMs = 0
  readonly priority = 'normal'
  readonly deadlineMs: number | undefined
  readonly stage: Stage
  readonly #memory: { stage: Stage }

  constructor(stage: Stage, deadlineMs: number | undefined, memory: { stage: Stage }) {
    this.stage = stage
    this.deadlineMs = deadlineMs
    this.#memory = memory
  }

  get next(): WorkKind {
    return this.need.isLoaded ? this.stage : 'load'
  }

  get need(): Need {
    return {
      model: 'one',
      isLoaded: this.#memory.stage === this.stage,
      prompts: this.stage === 'encode' ? 1 : 0,
      rows: 2,
      tokens: 256,
      stepsLeft: 20,
      latentPixels: 1024,
      partsDone: 0,
      previewPixels: 0,
    }
  }
}

const request = fc.record({
  stage: fc.constantFrom('encode' as const, 'denoise' as const),
  deadlineMs: fc.option(fc.integer({ min: 1, max: 120_000 }), { nil: undefined }),
})

test('a load is followed by the work that it was for, whatever the deadlines', () => {
  fc.assert(
    fc.property(
      fc.array(request, { minLength: 1, maxLength: 6 }),
      fc.constantFrom('encode' as const, 'denoise' as const),
      (made, stage) => {
        const memory: { stage: Stage } = { stage }
        const requests = made.map((one) => new Request(one.stage, one.deadlineMs, memory))
        const first = nextWork(requests, () => costs, 0, limits)!
        if (first.kind !== 'load') return
        const [leader] = first.tasks
        memory.stage = leader.stage
        const second = nextWork(requests, () => costs, costs.loadMs, limits)!
        expect(second.kind).toBe(leader.stage)
      },
    ),
    { numRuns: 10_000 },
  )
})
