/** What is asked for and when: a seed → requests of a fixed mix, which arrive as a Poisson process. */
import type { Bucket } from '../../src/diffusion/buckets.ts'
import { MersenneTwister } from '../../src/diffusion/mersenne-twister.ts'
import type { ImageRequest } from '../../src/engine/pool.ts'

export interface Trace {
  readonly requests: readonly ImageRequest[]
  /** Time from one arrival to the next, in units of the mean, the first from the start: exponentially distributed. */
  readonly gaps: readonly number[]
}

export interface TraceSettings {
  readonly seed: number
  readonly requests: number
  readonly model: string
  /** Aspect ratios, each as likely as any other. */
  readonly sizes: readonly Bucket[]
}

/** Each as likely as any other. */
export const stepCounts = [4, 8, 20, 50] as const
export const guidedShare = 0.8

const words = {
  what: ['lighthouse', 'cactus', 'fox', 'harbour', 'teapot', 'glacier', 'violin', 'orchard'],
  how: ['in watercolour', 'of blue glass', 'at dawn', 'in the rain', 'as a woodcut', 'seen from above'],
}

export function makeTrace({ seed, requests, model, sizes }: TraceSettings): Trace {
  const random = new MersenneTwister(seed)
  const uniform = () => random.next() / 2 ** 32
  const oneOf = <T>(items: readonly T[]): T => items[Math.floor(uniform() * items.length)]!
  const drawn = Array.from({ length: requests }, (_, index) => ({
    gap: -Math.log(1 - uniform()),
    request: {
      id: `${seed}-${index}`,
      model,
      // The number makes each prompt a new one: a prompt that is kept would make two requests unlike.
      prompt: `a ${oneOf(words.what)} ${oneOf(words.how)}, number ${index}`,
      negativePrompt: '',
      ...oneOf(sizes),
      seed: index,
      seedIndex: 0,
      steps: oneOf(stepCounts),
      guidanceScale: uniform() < guidedShare ? 4.5 : 1,
      scheduler: 'dpm++_2m',
      cleanCaption: false,
      priority: 'normal',
    } as const,
  }))
  return { requests: drawn.map(({ request }) => request), gaps: drawn.map(({ gap }) => gap) }
}

/** When each request comes, in milliseconds from the start, at a mean rate; an infinite one has all come at once. */
export function arrivalsMs({ gaps }: Trace, requestsPerMs: number): readonly number[] {
  let nowMs = 0
  return gaps.map((gap) => (nowMs += gap / requestsPerMs))
}
