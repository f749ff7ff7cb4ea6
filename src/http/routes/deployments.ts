/** Checkpoints put live, and taken back: `/v1/deployments`, and what changes which of them serves under a name. */
import type { FastifyReply } from 'fastify'
import { ApiError } from '../errors.ts'
import type { Handler } from '../contract.ts'
import { resolveModel } from '../limits.ts'
import { describeModel } from './models.ts'
import { idempotencyKeyOf, refuseBody, type RouteDependencies } from './dependencies.ts'
import { describeDeployment } from './describe-fine-tuning.ts'

export function deployFineTuningCheckpoint({
  fineTuning: service,
  generation,
  config,
}: RouteDependencies): Handler<'deployFineTuningCheckpoint'> {
  return async (request, reply) => {
    const { id, checkpoint } = request.params
    const { name } = request.body
    if (name != null && config.modelAliases.includes(name)) {
      const message = `name: expected a name that is no alias of another model, got ${JSON.stringify(name)}`
      throw new ApiError('invalid_value', message, { param: 'name' })
    }
    const deploy = async () => (await service.deploy(id, checkpoint, name ?? undefined)).id
    const key = idempotencyKeyOf(request)
    const body = { id, checkpoint, name: name ?? null }
    const call = key === undefined ? undefined : { key, operation: 'deployFineTuningCheckpoint', body }
    const { answer, replayed } = call
      ? await generation.once(call, deploy)
      : { answer: await deploy(), replayed: false }
    request.log.info({ deploymentId: answer, replayed }, 'checkpoint deployed')
    if (replayed) reply.header('idempotency-replayed', 'true')
    return describeDeployment(await service.deployments.get(answer))
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
  return async (request) => {
    refuseBody(request)
    const { name } = resolveModel(request.params.id, generation.models, config.modelAliases)
    await fineTuning.deployments.rollback(name)
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
