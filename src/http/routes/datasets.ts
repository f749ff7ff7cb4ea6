/** `/v1/datasets` and what can be done with one: bring, look, list, delete. */
import { Readable } from 'node:stream'
import type { FastifyReply } from 'fastify'
import type { Dataset } from '../../datasets/dataset.ts'
import { withDefaults, type ContractRequest, type Handler } from '../contract.ts'
import { callerOf } from '../caller.ts'
import { ApiError } from '../errors.ts'
import { describeValue } from '../validation.ts'
import { addressOf } from '../links.ts'
import type { RouteDependencies } from './dependencies.ts'
import { describeDataset, describeProblem } from './describe-dataset.ts'

export function createDataset(dependencies: RouteDependencies): Handler<'createDataset'> {
  const { config } = dependencies
  return async (request, reply) => {
    // An archive is not read into memory: it is the request's own stream.
    const body: unknown = request.body
    const dataset =
      body instanceof Readable
        ? await receiveArchive(request, body, dependencies)
        : await copyFolder(request, dependencies)
    request.log.info({ datasetId: dataset.id, source: dataset.source.kind }, 'dataset accepted')
    reply.code(202).header('location', `${addressOf(request, config)}/v1/datasets/${dataset.id}`)
    return describeDataset(dataset)
  }
}

type Create = ContractRequest<'createDataset'>

async function receiveArchive(
  request: Create,
  stream: Readable,
  { datasets, lifecycle }: RouteDependencies,
): Promise<Dataset> {
  const { query, headers } = request
  if (query.name === undefined) {
    const message = 'name: expected a name of 1 to 200 characters in the query, got nothing'
    throw new ApiError('missing_required_parameter', message, { param: 'name' })
  }
  const length = headers['content-length']
  return datasets.of(callerOf(request)).upload(
    { name: query.name, labels: query.label_source },
    {
      stream,
      expectedBytes: length === undefined ? undefined : Number(length),
      signal: lifecycle.drained,
    },
  )
}

async function copyFolder(request: Create, { datasets, contract }: RouteDependencies): Promise<Dataset> {
  const { body, query } = request
  const [param] = Object.keys(query)
  if (param !== undefined) {
    const message = `${param}: expected it in the body, where that is JSON, got it in the query`
    throw new ApiError('unknown_parameter', message, { param })
  }
  const { label_source: labels } = withDefaults(contract, 'CreateDatasetRequest', body, ['label_source'])
  return datasets.of(callerOf(request)).fromFolder({ name: body.name, folder: body.folder, labels })
}

export function listDatasets({ datasets }: RouteDependencies): Handler<'listDatasets'> {
  return async (request) => {
    const { limit, cursor } = request.query
    const { data, nextCursor } = await datasets.of(callerOf(request)).list({ limit, cursor })
    return {
      object: 'list',
      data: data.map((dataset) => describeDataset(dataset)),
      next_cursor: nextCursor ?? null,
    }
  }
}

export function getDataset({ datasets }: RouteDependencies): Handler<'getDataset'> {
  return async (request) => {
    const { id } = request.params
    const { resolution } = request.query
    const mine = datasets.of(callerOf(request))
    const dataset = await mine.get(id)
    if (!dataset) throw datasetNotFound(id)
    if (dataset.state !== 'ready') return describeDataset(dataset)
    const [labels, buckets] = await Promise.all([
      mine.labels(id),
      resolution === undefined ? undefined : mine.buckets(id, resolution),
    ])
    return describeDataset(dataset, { labels, ...(buckets && { buckets }) })
  }
}

export function deleteDataset({ datasets }: RouteDependencies): Handler<'deleteDataset'> {
  return async (request, reply): Promise<FastifyReply> => {
    const { id } = request.params
    if (!(await datasets.of(callerOf(request)).delete(id))) throw datasetNotFound(id)
    return reply.code(204).send()
  }
}

export function listDatasetProblems({ datasets }: RouteDependencies): Handler<'listDatasetProblems'> {
  return async (request) => {
    const { id } = request.params
    const { limit, cursor } = request.query
    const { data, nextCursor } = await datasets.of(callerOf(request)).problems(id, { limit, cursor })
    return { object: 'list', data: data.map(describeProblem), next_cursor: nextCursor ?? null }
  }
}

function datasetNotFound(id: string): ApiError {
  const message = `id: expected a dataset's id, got ${describeValue(id)}; there is no such dataset`
  return new ApiError('dataset_not_found', message, { param: 'id' })
}
