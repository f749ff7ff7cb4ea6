/** `GET /v1/models` and `GET /v1/models/{id}`: what this server makes pictures with. */
import { sizeText } from '../../generation/images.ts'
import type { SchemaModel } from '../../sdk/schema.ts'
import type { Handler } from '../contract.ts'
import { minSide, resolveModel } from '../limits.ts'
import { asUnixSeconds, type RouteDependencies } from './dependencies.ts'
import { describeDeployment } from './describe-fine-tuning.ts'

type Model = RouteDependencies['generation']['models'][number]

export async function describeModel(model: Model, dependencies: RouteDependencies): Promise<SchemaModel> {
  const { generation, fineTuning, config, startedAt } = dependencies
  const deployment = await fineTuning.deployments.live(model.name)
  return {
    id: model.name,
    object: 'model',
    created: asUnixSeconds(deployment?.createdAt ?? startedAt),
    owned_by: 'atelier',
    aliases: model.name === generation.models[0]?.name ? [...config.modelAliases] : [],
    version: model.version,
    origin: deployment ? describeDeployment(deployment) : null,
    state: model.state,
    size_bytes: model.sizeBytes,
    base_size: model.baseSize,
    buckets: model.buckets.map(sizeText),
    min_side: minSide,
    max_side: config.maxSide,
    default_scheduler: model.defaultScheduler,
    max_prompt_tokens: model.maxPromptTokens,
  }
}

export function listModels(dependencies: RouteDependencies): Handler<'listModels'> {
  return async () => ({
    object: 'list',
    data: await Promise.all(
      dependencies.generation.models.map((model) => describeModel(model, dependencies)),
    ),
  })
}

export function getModel(dependencies: RouteDependencies): Handler<'getModel'> {
  const { generation, config } = dependencies
  return async ({ params }) =>
    describeModel(resolveModel(params.id, generation.models, config.modelAliases), dependencies)
}
