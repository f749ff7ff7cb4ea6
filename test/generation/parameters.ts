/** Parameters that are valid, for tests that care about some of them only. */
import type { GenerationParameters } from '../../src/generation/parameters.ts'

export function someParameters(changes: Partial<GenerationParameters> = {}): GenerationParameters {
  return {
    model: 'paint',
    prompt: 'a lighthouse at dusk',
    negativePrompt: '',
    width: 32,
    height: 16,
    count: 1,
    seed: 7,
    seedIndex: 0,
    steps: 3,
    guidanceScale: 4.5,
    scheduler: 'dpm++_2m',
    cleanCaption: false,
    format: 'png',
    compression: 90,
    ...changes,
  }
}
