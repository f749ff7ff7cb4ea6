/** A service for tests of what is refused before any service is asked: it knows its models, and every call is a mistake. */
import type { GenerationService } from '../../src/generation/service.ts'
import { paintModel } from '../generation/paint-pool.ts'

const unreachable = (): never => {
  throw new Error('the service was asked')
}

export const unreachableService: GenerationService = {
  models: [paintModel],
  ready: true,
  swept: Promise.resolve(0),
  create: unreachable,
  settled: unreachable,
  get: unreachable,
  list: unreachable,
  cancel: unreachable,
  delete: unreachable,
  events: unreachable,
  preview: unreachable,
  once: unreachable,
  metrics: unreachable,
  image: unreachable,
  openBlob: unreachable,
  count: unreachable,
  close: unreachable,
}
