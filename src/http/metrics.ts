/** What Prometheus is told: how long requests took, and the service's figures as they stand when it asks. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import { co2Grams } from '../energy/footprint.ts'
import type { FineTuningFigures, FineTuningService } from '../fine-tuning/service.ts'
import type { GenerationMetrics, GenerationService } from '../generation/service.ts'

type Service = Pick<GenerationService, 'metrics' | 'models'>

export interface Metrics {
  readonly contentType: string
  observeRequest(request: { method: string; route: string; status: number }, seconds: number): void
  render(): Promise<string>
}

export function createMetrics(
  service: Service,
  fineTuning: Pick<FineTuningService, 'figures' | 'rates'>,
): Metrics {
  const requests = new Registry()
  const durations = new Histogram({
    name: 'atelier_http_request_duration_seconds',
    help: 'From the head of a request to the end of its answer.',
    labelNames: ['method', 'route', 'status'],
    buckets: [0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600],
    registers: [requests],
  })
  return {
    contentType: requests.contentType,
    observeRequest: (labels, seconds) => durations.observe(labels, seconds),
    async render() {
      const figures = await service.metrics()
      const families = [
        ...describe(figures, service.models, fineTuning.rates),
        ...describeTraining(await fineTuning.figures()),
      ]
      return Registry.merge([requests, figures.phaseTimes, collect(families)]).metrics()
    },
  }
}

type Labels = Readonly<Record<string, string>>

interface Family {
  readonly type: 'gauge' | 'counter'
  readonly name: string
  readonly help: string
  readonly samples: readonly (readonly [labels: Labels, value: number])[]
}

function collect(families: readonly Family[]): Registry {
  const registry = new Registry()
  for (const { type, name, help, samples } of families) {
    const labelNames = Object.keys(samples[0]?.[0] ?? {})
    const options = { name: `atelier_${name}`, help, labelNames, registers: [registry] }
    const metric = type === 'gauge' ? new Gauge(options) : new Counter(options)
    for (const [labels, value] of samples) metric.inc(labels, value)
  }
  return registry
}

const one = (value: number): Family['samples'] => [[{}, value]]
const gauge = (name: string, help: string, samples: Family['samples']): Family => ({
  type: 'gauge',
  name,
  help,
  samples,
})
const counter = (name: string, help: string, samples: Family['samples']): Family => ({
  type: 'counter',
  name: `${name}_total`,
  help,
  samples,
})

function describeTraining({ jobs, running, ...figures }: FineTuningFigures): Family[] {
  const perJob = (value: (job: (typeof running)[number]) => number | undefined): Family['samples'] =>
    running.flatMap((job) => {
      const told = value(job)
      return told === undefined ? [] : [[{ job: job.id }, told] as const]
    })
  return [
    gauge(
      'fine_tuning_jobs',
      'Fine-tuning jobs by their state.',
      Object.entries(jobs).map(([state, count]) => [{ state }, count]),
    ),
    counter('training_steps', 'Optimiser steps that were taken.', one(figures.steps)),
    counter('training_images', 'Pictures in those steps.', one(figures.images)),
    gauge(
      'training_images_per_second',
      'Pictures per second of device time in the last steps of the jobs that run.',
      one(running.reduce((sum, { imagesPerSecond }) => sum + imagesPerSecond, 0)),
    ),
    gauge(
      'training_job_step',
      'Optimiser steps of a job that runs, through all of its stages.',
      perJob(({ step }) => step),
    ),
    gauge(
      'training_job_steps',
      'Those that it will have taken at its end.',
      perJob(({ steps }) => steps),
    ),
    gauge(
      'training_job_loss',
      'Loss of its last step.',
      perJob(({ loss }) => loss),
    ),
    gauge(
      'training_job_images_per_second',
      'Pictures per second of device time in its last step.',
      perJob(({ imagesPerSecond }) => imagesPerSecond),
    ),
  ]
}

function describe(
  figures: GenerationMetrics,
  models: Service['models'],
  { gramsPerKwh }: FineTuningService['rates'],
): Family[] {
  const { queued, running, totals, devices } = figures
  const perDevice = (value: (device: (typeof devices)[number]) => number): Family['samples'] =>
    devices.map((device) => [{ device: device.name }, value(device)])
  return [
    gauge('generations', 'Generations that have not ended.', [
      [{ state: 'queued' }, queued],
      [{ state: 'running' }, running],
    ]),
    gauge(
      'queue_oldest_age_seconds',
      'How long the one that waits longest has waited.',
      one(figures.oldestQueuedSeconds),
    ),
    gauge(
      'expected_work_seconds',
      'Device time of all that waits and runs.',
      one(figures.expectedWorkSeconds),
    ),
    gauge('expected_wait_seconds', 'What a new request would wait.', one(figures.expectedWaitSeconds)),
    counter(
      'generations_ended',
      'Generations by how they ended; refused are those for which the queue was too long.',
      (['succeeded', 'failed', 'cancelled', 'refused'] as const).map((outcome) => [
        { outcome },
        totals[outcome],
      ]),
    ),
    counter('images', 'Pictures that were stored.', one(totals.images)),
    counter('device_seconds', 'Device time that stored pictures used.', one(totals.deviceSeconds)),
    counter(
      'energy_joules',
      'Energy that stored pictures took; the source says whether it was measured or reckoned from configured watts.',
      Object.entries(totals.joules).map(([source, joules]) => [{ source }, joules]),
    ),
    counter(
      'co2_grams',
      'Estimated from that.',
      Object.entries(totals.joules).map(([source, joules]) => [{ source }, co2Grams(joules, gramsPerKwh)]),
    ),
    counter('row_steps', 'Rows times steps of stored pictures.', one(totals.rowSteps)),
    counter(
      'policy_checks',
      'What the content policy made of requests (before) and of pictures (after); unjudged is what nobody answered for.',
      Object.entries(figures.policy).flatMap(([hook, outcomes]) =>
        Object.entries(outcomes).map(([outcome, count]) => [{ hook, outcome }, count] as const),
      ),
    ),
    gauge(
      'model_loaded',
      'Whether some device holds the model.',
      models.map(({ name, state }) => [{ model: name }, state === 'loaded' ? 1 : 0]),
    ),
    gauge(
      'device_state',
      'The state that a device is in is 1.',
      devices.flatMap(({ name, state }) =>
        (['starting', 'ready', 'restarting'] as const).map(
          (known) => [{ device: name, state: known }, state === known ? 1 : 0] as const,
        ),
      ),
    ),
    gauge(
      'device_requests',
      'Pictures that wait or run on a device.',
      perDevice(({ requests }) => requests),
    ),
    gauge(
      'device_backlog_seconds',
      'Expected device time of those.',
      perDevice(({ load }) => load.backlogMs / 1000),
    ),
    gauge(
      'device_batch_rows',
      'Rows of the last denoising batch.',
      perDevice(({ load }) => load.batchRows),
    ),
    counter(
      'device_units_of_work',
      'Calls that a device made.',
      perDevice(({ load }) => load.unitsOfWork),
    ),
    counter(
      'device_serving_seconds',
      'Time that a device spent on pictures.',
      perDevice(({ load }) => load.servingMs / 1000),
    ),
    counter(
      'device_training_seconds',
      'Time that a device spent on fine-tuning, jobs of other devices included.',
      perDevice(({ load }) => load.training.deviceMs / 1000),
    ),
    counter(
      'denoising_calls',
      'Denoising batches that a device computed.',
      perDevice(({ load }) => load.denoisingCalls),
    ),
    counter(
      'denoising_rows',
      'Rows of all of them: by the calls, how large batches were.',
      perDevice(({ load }) => load.denoisingRows),
    ),
    counter(
      'denoising_tokens',
      'Image tokens of those rows.',
      perDevice(({ load }) => load.denoisingTokens),
    ),
    counter(
      'text_encodings',
      'Texts that were encoded.',
      perDevice(({ load }) => load.textEncodings),
    ),
    counter(
      'prompt_cache_hits',
      'Texts that had been encoded before.',
      perDevice(({ load }) => load.promptCacheHits),
    ),
    gauge(
      'prompt_cache_bytes',
      'Memory of the prompt cache.',
      perDevice(({ load }) => load.promptCacheBytes),
    ),
  ]
}
