/** Checkpoints put live, and taken back: `/v1/deployments`, and what changes which of them serves under a name. */
import type { FastifyReply } from 'fastify'
import { callerOf } from '../caller.ts'
import { ApiError } from '../errors.ts'
import type { Handler } from '../contract.ts'
import { resolveModel } from '../limits.ts'
import { describeModel } from './models.ts'
import { refuseBody, type RouteDependencies } from './dependencies.ts'
import { describeDeployment } from './describe-fine-tuning.ts'
import { onceForKey } from './once.ts'

export function deployFineTuningCheckpoint(
  dependencies: RouteDependencies,
): Handler<'deployFineTuningCheckpoint'> {
  const { fineTuning: service, config } = dependencies
  return async (request, reply) => {
    const { log, params } = request
    const { id, checkpoint } = params
    const { name } = request.body
    if (name != null && config.modelAliases.includes(name)) {
      const message = `name: expected a name that is no alias of another model, got ${JSON.stringify(name)}`
      throw new ApiError('invalid_value', message, { param: 'name' })
    }
    const call = {
      operation: 'deployFineTuningCheckpoint',
      body: { id, checkpoint, name: name ?? null },
    }
    const deployed = await onceForKey(request, reply, dependencies, call, async () => {
      const deployment = await service.of(callerOf(request)).deploy(id, checkpoint, name ?? undefined)
      log.info({ deploymentId: deployment.id, name: deployment.name }, 'checkpoint deployed')
      return deployment.id
    })
    return describeDeployment(await service.deployments.get(deployed))
  }
}

export function listDeployments({ fineTuning }: RouteDependencies): Handler<'listDeployments'> {
  return async ({ query: { after, limit, name, job } }) => {
    const { data, hasMore } = await fineTuning.deployments.list({ after, limit, name, jobId: job })
    return { object: 'list', data: data.map(describeDeployment), has_more: hasMore }
  }
}

export function getDeployment({ fineTuning }: RouteDependencies): Handler<'getDeployment'> {
  return async ({ params }) => describeDeployment(await fineTuning.deployments.get(params.id))
}

export function deleteDeployment({ fineTuning }: RouteDependencies): Handler<'deleteDeployment'> {
  return async (request, reply): Promise<FastifyReply> => {
    refuseBody(request)
    await fineTuning.deployments.delete(request.params.id)
    return reply.code(204).send()
  }
}

export function rollbackModel(dependencies: RouteDependencies): Handler<'rollbackModel'> {
  const { fineTuning, generation, config } = dependencies
  return async (request, reply) => {
    refuseBody(request)
    const { name } = resolveModel(request.params.id, generation.models, config.modelAliases)
    // A second one would go one further back.
    await onceForKey(
      request,
      reply,
      dependencies,
      { operation: 'rollbackModel', body: { name } },
      async () => {
        const { id } = (await fineTuning.deployments.rollback(name)) ?? {}
        request.log.info({ name, deploymentId: id }, 'model rolled back')
        return id ?? null
      },
    )
    return describeModel(resolveModel(name, generation.models, []), dependencies)
  }
}

export function withdrawModel({
  fineTuning,
  generation,
  config,
}: RouteDependencies): Handler<'withdrawModel'> {
  return async (request) => {
    refuseBody(request)
    const { name } = resolveModel(request.params.id, generation.models, config.modelAliases)
    return describeDeployment(await fineTuning.deployments.withdraw(name))
  }
}
