/** `/livez`, `/readyz`, `/metrics` and `/openapi.yaml`: the server about itself. */
import type { Handler } from '../contract.ts'
import { ApiError } from '../errors.ts'
import type { RouteDependencies } from './dependencies.ts'

export function getLiveness(): Handler<'getLiveness'> {
  return async () => ({ status: 'alive' })
}

export function getReadiness({ generation, lifecycle }: RouteDependencies): Handler<'getReadiness'> {
  return async () => {
    if (lifecycle.isLeaving)
      throw new ApiError('shutting_down', 'The server is shutting down', { headers: { 'retry-after': '5' } })
    if (!generation.ready)
      throw new ApiError('not_ready', 'The service is starting', { headers: { 'retry-after': '1' } })
    const workers = await generation.countWorkers()
    return { status: 'ready', ...(workers !== undefined && { workers }) }
  }
}

export function getMetrics({ metrics }: RouteDependencies): Handler<'getMetrics'> {
  return async (_request, reply) => reply.type(metrics.contentType).send(await metrics.render())
}

export function getContract({ contract }: RouteDependencies): Handler<'getContract'> {
  return async (_request, reply) => reply.type('application/yaml; charset=utf-8').send(contract.text)
}
