/** Services for tests of what is refused before any service is asked: models are known, nothing is trained, and every call is a mistake. */
import { Keys } from '../../src/access/keys.ts'
import type { AppDependencies } from '../../src/http/app.ts'
import type { WebhookService } from '../../src/webhooks/service.ts'
import type { DatasetService } from '../../src/datasets/service.ts'
import type { FineTuningService } from '../../src/fine-tuning/service.ts'
import type { GenerationService } from '../../src/generation/service.ts'
import { fineTuningStates } from '../../src/fine-tuning/states.ts'
import { paintModel } from '../generation/paint-pool.ts'

const unreachable = (): never => {
  throw new Error('the service was asked')
}

/** A service that has no keys. */
export const noKeys: AppDependencies['access'] = {
  keys: new Keys(undefined as never),
  keyring: { hasKeys: async () => false, judge: unreachable, hasSeen: unreachable },
  windows: { take: unreachable, isSpent: unreachable },
}

export const unreachableDatasets: DatasetService = {
  of: unreachable,
  pictures: unreachable,
  close: unreachable,
}

export const unreachableService: GenerationService = {
  models: [paintModel],
  ready: true,
  swept: Promise.resolve(0),
  of: unreachable,
  pictures: unreachable,
  metrics: unreachable,
  activity: unreachable,
  openBlob: unreachable,
  linkToBlob: unreachable,
  count: unreachable,
  countWorkers: async () => undefined,
  drain: unreachable,
  close: unreachable,
}

export const unreachableWebhooks: WebhookService = {
  of: unreachable,
  checkUrl: unreachable,
  close: unreachable,
}

/** Nothing is trained and nothing is deployed. */
export const idleFineTuning: FineTuningService = {
  rates: { watts: 100, gramsPerKwh: 480, costPerDeviceHour: undefined },
  sources: undefined,
  of: unreachable,
  pictures: unreachable,
  deployments: {
    get: unreachable,
    list: unreachable,
    live: async () => undefined,
    allLive: async () => [],
    rollback: unreachable,
    withdraw: unreachable,
    delete: unreachable,
  },
  figures: async () => ({
    jobs: Object.fromEntries(fineTuningStates.map((state) => [state, 0])) as Record<
      (typeof fineTuningStates)[number],
      number
    >,
    steps: 0,
    images: 0,
    running: [],
  }),
  drain: unreachable,
  close: unreachable,
}
