/** What a worker answers: whether it lives, whether it can take work, and its figures. It serves no part of the contract beyond that. */
import Fastify, { LogController, type FastifyBaseLogger, type FastifyInstance } from 'fastify'
import type { FineTuningService } from '../fine-tuning/service.ts'
import type { GenerationService } from '../generation/service.ts'
import { createMetrics } from './metrics.ts'

export interface WorkerAppDependencies {
  readonly generation: Pick<GenerationService, 'ready' | 'metrics' | 'models' | 'count'>
  readonly fineTuning: Pick<FineTuningService, 'figures' | 'rates'>
  /** Aborted when the process was told to end: from then on it is not ready. */
  readonly ending: AbortSignal
  readonly logger: FastifyBaseLogger
}

export async function buildWorkerApp({
  generation,
  fineTuning,
  ending,
  logger,
}: WorkerAppDependencies): Promise<FastifyInstance> {
  const app: FastifyInstance = Fastify({
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: 1024,
  })
  const metrics = createMetrics(generation, fineTuning)
  app.get('/livez', async () => ({ status: 'alive' }))
  app.get('/readyz', async (_request, reply) => {
    const isReady =
      !ending.aborted && generation.ready && (await generation.count().then(Boolean, () => false))
    return isReady ? { status: 'ready' } : reply.code(503).send({ status: 'not ready' })
  })
  app.get('/metrics', async (_request, reply) => reply.type(metrics.contentType).send(await metrics.render()))
  return app
}
