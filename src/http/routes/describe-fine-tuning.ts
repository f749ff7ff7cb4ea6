/** Jobs, what belongs to them, and deployments, as the contract has them. */
import { basename, relative } from 'node:path'
import type { Deployment } from '../../fine-tuning/deployments.ts'
import { footprint, type Rates } from '../../energy/footprint.ts'
import type { FineTuningEvent } from '../../fine-tuning/events.ts'
import { eventIdOf, type FineTuningJob, type FinishedStage, type Usage } from '../../fine-tuning/job.ts'
import type { JobPlan, StagePlan } from '../../fine-tuning/plan.ts'
import type { CheckpointRecord, SampleRecord, StepMetrics } from '../../fine-tuning/reader.ts'
import type { FineTuningService, PlannedJob } from '../../fine-tuning/service.ts'
import type { JobParameters } from '../../fine-tuning/specification.ts'
import type {
  SchemaDeployment,
  SchemaFineTuningCheckpoint,
  SchemaFineTuningEstimate,
  SchemaFineTuningEvent,
  SchemaFineTuningJob,
  SchemaFineTuningMeasuredUse,
  SchemaFineTuningMetric,
  SchemaFineTuningPlan,
  SchemaFineTuningReport,
  SchemaFineTuningSample,
  SchemaFineTuningStage,
} from '../../sdk/schema.ts'
import { asUnixSeconds } from './dependencies.ts'

const seconds = (date: Date | undefined): number | null => (date ? asUnixSeconds(date) : null)

/** What figures are by, and places are relative to. */
type Context = Pick<FineTuningService, 'rates' | 'sources'>

/** @param servesAs the name that a checkpoint of the job serves under */
export function describeJob(
  job: FineTuningJob,
  servesAs: string | undefined,
  { rates, sources }: Context,
): SchemaFineTuningJob {
  return {
    id: job.id,
    object: 'fine_tuning.job',
    created_at: asUnixSeconds(job.createdAt),
    started_at: seconds(job.startedAt),
    finished_at: seconds(job.finishedAt),
    estimated_finish: seconds(job.expectedEnd),
    status: job.state,
    pausing: job.pauseAsked,
    model: job.model,
    model_version: job.modelVersion,
    fine_tuned_model: servesAs ?? null,
    dataset: job.datasetId,
    pictures: job.pictures ? { used: job.pictures.used, left_out: job.pictures.leftOut } : null,
    suffix: job.suffix ?? null,
    on_bad_data: job.onBadData,
    ...describeParameters(job.parameters, sources),
    progress: { ...job.progress },
    estimate: describePlan(job.plan),
    use: describeUse(job.usage, rates),
    reports: job.reports.map((report) => describeReport(report, rates)),
    attempt: job.attempt,
    error: job.error ? { ...job.error } : null,
  }
}

export function describePlanned(
  { model, parameters, plan }: PlannedJob,
  { sources }: Context,
): SchemaFineTuningPlan {
  return {
    object: 'fine_tuning.plan',
    model: model.name,
    model_version: model.version,
    ...describeParameters(parameters, sources),
    estimate: describePlan(plan),
  }
}

type Parameters = Pick<
  SchemaFineTuningPlan,
  | 'method'
  | 'start'
  | 'seed'
  | 'stages'
  | 'samples'
  | 'checkpoint_every'
  | 'keep_checkpoints'
  | 'held_out_share'
>

function describeParameters(parameters: JobParameters, sources: string | undefined): Parameters {
  const { method, start, samples } = parameters
  return {
    method:
      method.kind === 'full'
        ? { type: 'full' }
        : { type: 'lora', rank: method.rank, alpha: method.alpha, targets: [...method.targets] },
    start:
      start.kind === 'dit'
        ? // As it was asked for; where the server keeps them is its own business.
          {
            from: 'dit',
            source: sources === undefined ? basename(start.folder) : relative(sources, start.folder),
          }
        : { from: start.kind === 'base' ? 'model' : 'random' },
    seed: parameters.seed,
    stages: parameters.stages.map(describeStage),
    samples: {
      prompts: samples.prompts.map(({ prompt, seed }) => ({ prompt, seed })),
      every: samples.every,
      steps: samples.steps,
      guidance_scale: samples.guidanceScale,
    },
    checkpoint_every: parameters.checkpointEvery,
    keep_checkpoints: parameters.keepCheckpoints,
    held_out_share: parameters.heldOutShare,
  }
}

const describeStage = (stage: JobParameters['stages'][number]): SchemaFineTuningStage => ({
  kind: stage.kind,
  resolution: stage.resolution,
  multi_aspect: stage.multiAspect,
  steps: stage.steps,
  batch_size: stage.batchSize,
  learning_rate: stage.learningRate,
  schedule: stage.schedule,
  warmup_steps: stage.warmupSteps,
  weight_decay: stage.weightDecay,
  gradient_clip: stage.gradientClip,
  ema_decay: stage.emaDecay,
  caption_dropout: stage.captionDropout,
  loss: { kind: stage.loss.kind, min_snr: stage.loss.minSnr ?? null },
  kl_weight: stage.klWeight,
  equivariance_weight: stage.equivarianceWeight,
  filter: { min_aesthetic_score: stage.minAestheticScore ?? null },
  train: {
    text_encoder: stage.trainTextEncoder,
    text_encoder_learning_rate: stage.trainTextEncoder
      ? (stage.textEncoderLearningRate ?? stage.learningRate)
      : null,
    condition: stage.condition,
    recompute: stage.recompute,
    precision: stage.precision,
  },
})

const describePlan = (plan: JobPlan): SchemaFineTuningEstimate => ({
  steps: plan.steps,
  pictures: plan.pictures,
  parameters: plan.parameters.total,
  trained_parameters: plan.parameters.trained,
  expected_seconds: plan.expectedMs / 1000,
  prepare_seconds: plan.prepareMs / 1000,
  samples_seconds: plan.samplesMs / 1000,
  memory_bytes: Math.ceil(plan.peakBytes),
  memory_limit_bytes: Math.floor(plan.limitBytes),
  checkpoint_bytes: plan.disk.checkpointBytes,
  disk_bytes: Math.ceil(plan.disk.totalBytes),
  use: describeFootprint(plan.use),
  stages: plan.stages.map(describeStagePlan),
  warnings: [...plan.warnings],
})

const describeStagePlan = ({ memory, ...stage }: StagePlan): SchemaFineTuningEstimate['stages'][number] => ({
  micro_batch: stage.microBatch,
  micro_step_ms: stage.microStepMs,
  expected_seconds: stage.deviceMs / 1000,
  basis: stage.basis,
  crossing_bytes: stage.crossingBytes,
  memory: {
    weights: memory.weightBytes,
    gradients: memory.gradientBytes,
    moments: memory.momentBytes,
    average: memory.averageBytes,
    activations: Math.ceil(memory.activationBytes),
    mapped: memory.mappedBytes,
    total: Math.ceil(memory.totalBytes),
  },
})

const describeFootprint = (used: ReturnType<typeof footprint>): SchemaFineTuningEstimate['use'] => ({
  device_hours: used.deviceHours,
  energy_kwh: used.kwh,
  co2_grams: used.co2Grams,
  cost: used.cost ?? null,
})

const describeUse = (usage: Usage, rates: Rates): SchemaFineTuningMeasuredUse => ({
  ...describeFootprint(footprint(usage, rates)),
  energy_source: usage.energySource ?? null,
})

function describeReport(report: FinishedStage, rates: Rates): SchemaFineTuningReport {
  const { heldOut } = report
  return {
    stage: report.stage,
    kind: report.kind,
    steps: report.steps,
    pictures: report.pictures,
    held_out: heldOut
      ? { loss_before: heldOut.lossBefore, loss_after: heldOut.lossAfter, pictures: heldOut.pictures }
      : null,
    largest_change: { ...report.largestChange },
    use: describeUse(report, rates),
  }
}

export function describeEvent(jobId: string, event: FineTuningEvent): SchemaFineTuningEvent {
  const { type, ...data } = event.details
  return {
    id: eventIdOf(jobId, event.sequence),
    object: 'fine_tuning.job.event',
    created_at: asUnixSeconds(event.at),
    level: event.level,
    message: event.message,
    type: type === 'metrics' ? 'metrics' : 'message',
    event: type,
    data,
  }
}

export const describeMetrics = (metrics: StepMetrics): SchemaFineTuningMetric => ({
  step: metrics.step,
  stage: metrics.stage,
  stage_step: metrics.stageStep,
  loss: metrics.loss,
  gradient_norm: metrics.gradientNorm,
  learning_rate: metrics.learningRate,
  images_per_second: metrics.imagesPerSecond,
  device_ms: metrics.deviceMs,
})

export const describeSample = (sample: SampleRecord, url: string): SchemaFineTuningSample => ({
  id: sample.id,
  object: 'fine_tuning.job.sample',
  created_at: asUnixSeconds(sample.createdAt),
  job: sample.jobId,
  stage: sample.stage,
  step: sample.step,
  index: sample.index,
  prompt: sample.prompt,
  seed: sample.seed,
  url,
  width: sample.width,
  height: sample.height,
})

export const describeCheckpoint = (
  checkpoint: CheckpointRecord,
  servesAs: string | undefined,
): SchemaFineTuningCheckpoint => ({
  id: checkpoint.id,
  object: 'fine_tuning.job.checkpoint',
  created_at: asUnixSeconds(checkpoint.createdAt),
  fine_tuning_job_id: checkpoint.jobId,
  step_number: checkpoint.step,
  stage: checkpoint.stage,
  size_bytes: checkpoint.sizeBytes,
  metrics: checkpoint.metrics ? describeMetrics(checkpoint.metrics) : null,
  fine_tuned_model_checkpoint: servesAs ?? null,
})

export const describeDeployment = (deployment: Deployment): SchemaDeployment => ({
  id: deployment.id,
  object: 'deployment',
  created_at: asUnixSeconds(deployment.createdAt),
  ended_at: seconds(deployment.endedAt),
  name: deployment.name,
  state: deployment.state,
  model_version: deployment.modelVersion,
  base_model: deployment.baseModel,
  job: deployment.jobId,
  checkpoint: deployment.checkpointId,
  step: deployment.step,
})
