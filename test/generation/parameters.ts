/** Parameters and requests that are valid, for tests that care about some of them only. */
import { keyless } from '../../src/access/caller.ts'
import type { GenerationParameters } from '../../src/generation/parameters.ts'
import type { NewGeneration } from '../../src/generation/store.ts'

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

/** What the store is given for them, as the service would. */
export function someRequest(changes: Partial<NewGeneration> = {}): NewGeneration {
  return {
    caller: keyless,
    parameters: someParameters(),
    requestId: 'req',
    user: undefined,
    priority: 'normal',
    deadline: undefined,
    previewSteps: [],
    expectedMs: 1,
    rowTokens: 1,
    idempotency: undefined,
    ...changes,
  }
}
