/** `/v1/fine_tuning/jobs`: jobs planned, created, looked at, listed, paused, resumed, cancelled and deleted. */
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Deployment } from '../../fine-tuning/deployments.ts'
import type { FineTuningJob } from '../../fine-tuning/job.ts'
import type { FineTuningJobs } from '../../fine-tuning/service.ts'
import type { SchemaFineTuningJob } from '../../sdk/schema.ts'
import type { Handler } from '../contract.ts'
import { callerOf } from '../caller.ts'
import { ApiError } from '../errors.ts'
import { resolveModel } from '../limits.ts'
import { describeValue } from '../validation.ts'
import { addressOf } from '../links.ts'
import { refuseBody, type RouteDependencies } from './dependencies.ts'
import { describeJob, describePlanned } from './describe-fine-tuning.ts'
import { readJobRequest } from './fine-tuning-request.ts'
import { onceForKey } from './once.ts'

export function createFineTuningJob(dependencies: RouteDependencies): Handler<'createFineTuningJob'> {
  const { fineTuning: service, generation, config } = dependencies
  return async (request, reply) => {
    const { body, log } = request
    const { model } = body
    const wanted = {
      ...readJobRequest(body),
      model: resolveModel(model, generation.models, config.modelAliases).name,
    }
    if (body.dry_run === true)
      return describePlanned(await service.of(callerOf(request)).plan(wanted), service)
    const call = { operation: 'createFineTuningJob', body }
    const id = await onceForKey(request, reply, dependencies, call, async () => {
      const job = await service.of(callerOf(request)).create({ ...wanted, requestId: request.id })
      log.info({ jobId: job.id }, 'fine-tuning job accepted')
      return job.id
    })
    reply.code(202).header('location', `${addressOf(request, config)}/v1/fine_tuning/jobs/${id}`)
    return describe(await findJob(id, request, dependencies), dependencies)
  }
}

export function listFineTuningJobs({ fineTuning }: RouteDependencies): Handler<'listFineTuningJobs'> {
  return async (request) => {
    const { after, limit, status } = request.query
    const { data, hasMore } = await fineTuning.of(callerOf(request)).list({ after, limit, state: status })
    const live = await fineTuning.deployments.allLive()
    return {
      object: 'list',
      data: data.map((job) => describeJob(job, servingName(job, live), fineTuning)),
      has_more: hasMore,
    }
  }
}

export function getFineTuningJob(dependencies: RouteDependencies): Handler<'getFineTuningJob'> {
  return async (request) => describe(await findJob(request.params.id, request, dependencies), dependencies)
}

type Command = 'cancelFineTuningJob' | 'pauseFineTuningJob' | 'resumeFineTuningJob'

const command =
  <O extends Command>(
    dependencies: RouteDependencies,
    carryOut: (jobs: FineTuningJobs, id: string) => Promise<FineTuningJob>,
  ): Handler<O> =>
  async (request) => {
    refuseBody(request)
    const { id } = request.params as { id: string }
    const job = await carryOut(dependencies.fineTuning.of(callerOf(request)), id)
    return (await describe(job, dependencies)) as Awaited<ReturnType<Handler<O>>>
  }

export const cancelFineTuningJob = (dependencies: RouteDependencies) =>
  command<'cancelFineTuningJob'>(dependencies, (jobs, id) => jobs.cancel(id))
export const pauseFineTuningJob = (dependencies: RouteDependencies) =>
  command<'pauseFineTuningJob'>(dependencies, (jobs, id) => jobs.pause(id))
export const resumeFineTuningJob = (dependencies: RouteDependencies) =>
  command<'resumeFineTuningJob'>(dependencies, (jobs, id) => jobs.resume(id))

export function deleteFineTuningJob({
  fineTuning: service,
}: RouteDependencies): Handler<'deleteFineTuningJob'> {
  return async (request, reply): Promise<FastifyReply> => {
    refuseBody(request)
    await service.of(callerOf(request)).delete(request.params.id)
    return reply.code(204).send()
  }
}

/** @throws {ApiError} `fine_tuning_job_not_found` */
export async function findJob(
  id: string,
  request: FastifyRequest,
  { fineTuning }: Pick<RouteDependencies, 'fineTuning'>,
): Promise<FineTuningJob> {
  const job = await fineTuning.of(callerOf(request)).find(id)
  if (job) return job
  const message = `id: expected a job's id, got ${describeValue(id)}; there is no such job`
  throw new ApiError('fine_tuning_job_not_found', message, { param: 'id' })
}

async function describe(
  job: FineTuningJob,
  { fineTuning }: Pick<RouteDependencies, 'fineTuning'>,
): Promise<SchemaFineTuningJob> {
  return describeJob(job, servingName(job, await fineTuning.deployments.allLive()), fineTuning)
}

/** @returns the name of its newest deployment that serves */
const servingName = ({ id }: FineTuningJob, live: readonly Deployment[]): string | undefined =>
  live
    .filter(({ jobId }) => jobId === id)
    .toSorted((a, b) => b.createdAt.getTime() - a.createdAt.getTime())[0]?.name
