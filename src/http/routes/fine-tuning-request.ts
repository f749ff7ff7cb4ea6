/** A body of `POST /v1/fine_tuning/jobs` as the room of jobs has it: names, and `null` for what is left out. */
import type { JobSpecification, StartWish } from '../../fine-tuning/specification.ts'
import type { JobRequest } from '../../fine-tuning/service.ts'
import type {
  SchemaCreateFineTuningJobRequest,
  SchemaFineTuningMethodRequest,
  SchemaFineTuningStageRequest,
} from '../../sdk/schema.ts'
import { ApiError } from '../errors.ts'

/** @throws {ApiError} for what no schema can say */
export function readJobRequest(body: SchemaCreateFineTuningJobRequest): JobRequest {
  return {
    model: body.model,
    datasetId: body.dataset,
    suffix: body.suffix ?? undefined,
    onBadData: body.on_bad_data ?? 'fail',
    specification: readSpecification(body),
  }
}

/** @throws {ApiError} */
export function readSpecification(
  body: Omit<SchemaCreateFineTuningJobRequest, 'model' | 'dataset'>,
): JobSpecification {
  const { samples } = body
  return {
    method: body.method ? readMethod(body.method) : undefined,
    start: body.start ? readStart(body.start) : undefined,
    stages: body.stages.map(readStage),
    seed: body.seed ?? undefined,
    samples: samples
      ? {
          every: samples.every ?? undefined,
          prompts: samples.prompts.map(({ prompt, seed }) => ({ prompt, seed: seed ?? 0 })),
          steps: samples.steps ?? undefined,
          guidanceScale: samples.guidance_scale ?? undefined,
        }
      : undefined,
    checkpointEvery: body.checkpoint_every ?? undefined,
    keepCheckpoints: body.keep_checkpoints ?? undefined,
    heldOutShare: body.held_out_share ?? undefined,
  }
}

function readMethod({
  type,
  rank,
  alpha,
  targets,
}: SchemaFineTuningMethodRequest): JobSpecification['method'] {
  if (type === 'lora')
    return {
      kind: 'lora',
      rank: rank ?? undefined,
      alpha: alpha ?? undefined,
      targets: targets ?? undefined,
    }
  const [given] = Object.entries({ rank, alpha, targets }).filter(([, value]) => value != null)
  if (given) throw onlyWith(`method.${given[0]}`, 'method.type "lora"')
  return { kind: 'full' }
}

function readStart({ from, source }: NonNullable<SchemaCreateFineTuningJobRequest['start']>): StartWish {
  if (from === 'dit') {
    if (source != null) return { kind: 'dit', source }
    throw new ApiError(
      'missing_required_parameter',
      'start.source: expected a folder of a DiT, got nothing',
      {
        param: 'start.source',
      },
    )
  }
  if (source != null) throw onlyWith('start.source', 'start.from "dit"')
  return { kind: from === 'model' ? 'base' : 'random' }
}

const onlyWith = (param: string, other: string): ApiError =>
  new ApiError('invalid_value', `${param}: expected only with ${other}`, { param })

function readStage(stage: SchemaFineTuningStageRequest): JobSpecification['stages'][number] {
  const { train, loss } = stage
  return {
    kind: stage.kind,
    resolution: stage.resolution ?? undefined,
    multiAspect: stage.multi_aspect ?? undefined,
    steps: stage.steps ?? undefined,
    batchSize: stage.batch_size ?? undefined,
    learningRate: stage.learning_rate ?? undefined,
    schedule: stage.schedule ?? undefined,
    warmupSteps: stage.warmup_steps ?? undefined,
    weightDecay: stage.weight_decay ?? undefined,
    gradientClip: stage.gradient_clip ?? undefined,
    emaDecay: stage.ema_decay ?? undefined,
    captionDropout: stage.caption_dropout ?? undefined,
    loss: loss ? { kind: loss.kind ?? 'variational', minSnr: loss.min_snr ?? undefined } : undefined,
    klWeight: stage.kl_weight ?? undefined,
    equivarianceWeight: stage.equivariance_weight ?? undefined,
    minAestheticScore: stage.filter?.min_aesthetic_score ?? undefined,
    condition: train?.condition ?? undefined,
    trainTextEncoder: train?.text_encoder ?? undefined,
    textEncoderLearningRate: train?.text_encoder_learning_rate ?? undefined,
    recompute: train?.recompute ?? undefined,
    precision: train?.precision ?? undefined,
  }
}
