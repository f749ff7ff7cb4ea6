/** `/v1/generations` and what can be done with one: ask, look, list, cancel, delete. */
import type { FastifyReply } from 'fastify'
import type { Generation } from '../../generation/generation.ts'
import type { CreateOptions, Generations } from '../../generation/service.ts'
import { webhookEvents } from '../../webhooks/deliveries.ts'
import type { SchemaCreateGenerationRequest } from '../../sdk/schema.ts'
import { withDefaults, type Handler } from '../contract.ts'
import { callerOf } from '../caller.ts'
import { clientGone } from '../lifecycle.ts'
import { aliasedModel, readParameters } from '../limits.ts'
import { readWait } from '../prefer.ts'
import {
  generationNotFound,
  generationUrl,
  idempotencyKeyOf,
  promptsToLog,
  readTime,
  refuseBody,
  type RouteDependencies,
} from './dependencies.ts'
import { describeGeneration } from './describe-generation.ts'

export function createGeneration(dependencies: RouteDependencies): Handler<'createGeneration'> {
  const { generation: service, config, contract } = dependencies
  return async (request, reply) => {
    const { body } = request
    const parameters = readParameters(body, { contract, config, models: service.models })
    const gone = clientGone(reply)
    const mine = service.of(callerOf(request))
    const { generation, replayed } = await mine.create(parameters, {
      ...readWishes(body, dependencies),
      requestId: request.id,
      traceparent: dependencies.traceparentOf(request),
      user: body.user || undefined,
      idempotencyKey: idempotencyKeyOf(request),
      idempotencyBody: body,
      idempotencyOperation: 'createGeneration',
    })
    const { id } = generation
    request.log.info(
      { generationId: id, replayed, ...promptsToLog(parameters, config) },
      'generation accepted',
    )
    const waitSeconds = readWait(request.headers.prefer)
    reply.header('location', generationUrl(request, config, id))
    if (replayed) reply.header('idempotency-replayed', 'true')
    if (waitSeconds !== undefined) {
      reply.header('preference-applied', `wait=${waitSeconds}`)
      if (await endsWithin(waitSeconds, id, gone, { mine, lifecycle: dependencies.lifecycle }))
        reply.code(200)
      else reply.code(202)
    } else reply.code(202)
    return describeGeneration((await mine.get(id)) ?? generation, request, dependencies)
  }
}

function readWishes(
  body: SchemaCreateGenerationRequest,
  { contract, webhooks }: RouteDependencies,
): Pick<CreateOptions, 'priority' | 'deadline' | 'previews' | 'webhook'> {
  const { priority } = withDefaults(contract, 'CreateGenerationRequest', body, ['priority'])
  const webhook = body.webhook
    ? { url: body.webhook.url, events: body.webhook.events ?? webhookEvents }
    : undefined
  if (webhook) webhooks.checkUrl(webhook.url)
  return {
    priority,
    deadline: body.deadline == null ? undefined : readTime(body.deadline, 'deadline'),
    previews: body.preview_every == null ? undefined : { everySteps: body.preview_every },
    webhook,
  }
}

/** Also false when the client leaves or the server shuts down, which changes nothing for the generation. */
async function endsWithin(
  seconds: number,
  id: string,
  gone: AbortSignal,
  { mine, lifecycle }: Pick<RouteDependencies, 'lifecycle'> & { readonly mine: Generations },
): Promise<boolean> {
  const signal = AbortSignal.any([gone, lifecycle.drained, AbortSignal.timeout(seconds * 1000)])
  try {
    await mine.settled(id, { signal })
    return true
  } catch (error) {
    if (signal.aborted) return false
    throw error
  }
}

export function listGenerations(dependencies: RouteDependencies): Handler<'listGenerations'> {
  const { generation: service, config } = dependencies
  return async (request) => {
    const { limit, cursor, state, model, created_after, created_before } = request.query
    const page = await service.of(callerOf(request)).list({
      limit,
      cursor,
      state,
      model: model === undefined ? undefined : aliasedModel(model, service.models, config.modelAliases),
      createdAfter: created_after === undefined ? undefined : readTime(created_after, 'created_after'),
      createdBefore: created_before === undefined ? undefined : readTime(created_before, 'created_before'),
    })
    return {
      object: 'list',
      data: await Promise.all(
        page.data.map((generation) => describeGeneration(generation, request, dependencies)),
      ),
      next_cursor: page.nextCursor ?? null,
    }
  }
}

export function deleteGenerations({ generation: service }: RouteDependencies): Handler<'deleteGenerations'> {
  return async (request) => {
    refuseBody(request)
    const before = readTime(request.query.created_before, 'created_before')
    const deleted = await service.of(callerOf(request)).deleteCreatedBefore(before)
    request.log.info({ deleted }, 'generations deleted')
    return { object: 'generation.deletion', deleted }
  }
}

export function getGeneration(dependencies: RouteDependencies): Handler<'getGeneration'> {
  return async (request) => {
    const { id } = request.params
    const generation = await dependencies.generation.of(callerOf(request)).get(id)
    if (!generation) throw generationNotFound(id)
    return describeGeneration(generation, request, dependencies)
  }
}

export function cancelGeneration(dependencies: RouteDependencies): Handler<'cancelGeneration'> {
  const { generation: service } = dependencies
  return async (request, reply) => {
    refuseBody(request)
    const { id } = request.params
    const mine = service.of(callerOf(request))
    const key = idempotencyKeyOf(request)
    const cancel = async () => {
      if (!(await mine.cancel(id))) throw generationNotFound(id)
      return id
    }
    if (key === undefined) await cancel()
    else {
      const call = { key, operation: 'cancelGeneration', body: { id } }
      const { replayed } = await mine.once(call, cancel)
      if (replayed) reply.header('idempotency-replayed', 'true')
    }
    const generation: Generation | undefined = await mine.get(id)
    if (!generation) throw generationNotFound(id)
    return describeGeneration(generation, request, dependencies)
  }
}

export function deleteGeneration({ generation: service }: RouteDependencies): Handler<'deleteGeneration'> {
  return async (request, reply): Promise<FastifyReply> => {
    refuseBody(request)
    const { id } = request.params
    if (!(await service.of(callerOf(request)).delete(id))) throw generationNotFound(id)
    return reply.code(204).send()
  }
}
