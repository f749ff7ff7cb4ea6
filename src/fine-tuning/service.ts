/** One job's life, as its callers see it: planned, created, watched, paused and resumed, deployed, deleted. */
import { randomInt } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import type { Logger } from 'pino'
import type { Caller } from '../access/caller.ts'
import { everyProject, type Whose } from '../access/project.ts'
import type { Dataset } from '../datasets/dataset.ts'
import { DatasetError } from '../datasets/errors.ts'
import type { DatasetService } from '../datasets/service.ts'
import type { Rates } from '../energy/footprint.ts'
import { openEnergyMeter } from '../energy/meter.ts'
import type { ModelFolder, ModelInfo, PlanningView, Pool } from '../engine/pool.ts'
import { Announcements } from '../storage/announcements.ts'
import { oneAtATime } from '../storage/one-at-a-time.ts'
import { noPolicy, type ContentPolicy } from '../policy/service.ts'
import type { Storage } from '../storage/storage.ts'
import type { Tracing } from '../tracing/tracing.ts'
import { readFootprint } from '../training/footprint.ts'
import { Adapters, type AdapterFile } from './adapters.ts'
import { requireDataset, type Datasets } from './datasets.ts'
import { Deployments, type Deployment } from './deployments.ts'
import { FineTuningError } from './errors.ts'
import { streamEvents, type StreamOptions } from './event-stream.ts'
import type { FineTuningEvent } from './events.ts'
import {
  isJobId,
  toTrainingJob,
  type Failure,
  type FineTuningJob,
  type JobFolders,
  type OnBadData,
} from './job.ts'
import { planJob, type JobPlan } from './plan.ts'
import {
  FineTuningReader,
  type CheckpointRecord,
  type MetricsOptions,
  type Page,
  type PageOptions,
  type SampleRecord,
  type StepMetrics,
} from './reader.ts'
import { jobChannel } from './rows.ts'
import { startRunner } from './runner.ts'
import { FineTuningRuns, type Recovery } from './runs.ts'
import { checkSource } from './sources.ts'
import { completeJob, type JobParameters, type JobSpecification } from './specification.ts'
import type { FineTuningState } from './states.ts'
import { FineTuningStore } from './store.ts'
import { TrainingTotals, type RunningJob } from './totals.ts'
import { findFault, validate } from './validation.ts'

export interface JobRequest {
  /** A served model's own name. */
  readonly model: string
  readonly datasetId: string
  readonly suffix?: string | undefined
  readonly onBadData: OnBadData
  readonly specification: JobSpecification
}

/** What a dry run answers. */
export interface PlannedJob {
  readonly model: ModelInfo
  readonly parameters: JobParameters
  readonly plan: JobPlan
}

export interface FineTuningFigures {
  readonly jobs: Readonly<Record<FineTuningState, number>>
  /** Counted since this process started. */
  readonly steps: number
  readonly images: number
  /** In this process. */
  readonly running: readonly RunningJob[]
}

/** What can be looked at by its address alone. */
export interface Pictures {
  /** A WebP picture. @throws {FineTuningError} `sample_not_found` */
  openSample(id: string, sampleId: string): Promise<Readable>
}

/** One project's jobs, as whoever asks for it may see and change them; all others are not there. */
export interface FineTuningJobs extends Pictures {
  /** What the job would be and take; nothing is created. @throws {FineTuningError} as `create` */
  plan(request: JobRequest): Promise<PlannedJob>
  /** @throws {FineTuningError} `unknown_model`, `unknown_dataset`, `invalid_job`; {@link PolicyError} */
  create(request: JobRequest & { readonly requestId: string }): Promise<FineTuningJob>
  find(id: string): Promise<FineTuningJob | undefined>
  /** Newest first. @throws {FineTuningError} `job_not_found` when `after` names none */
  list(options: PageOptions & { readonly state?: FineTuningState | undefined }): Promise<Page<FineTuningJob>>
  /** Each of these throws {FineTuningError} `job_not_found`. Events newest first. */
  events(
    id: string,
    options: { readonly before?: number | undefined; readonly limit?: number | undefined },
  ): Promise<Page<FineTuningEvent>>
  /** Every event after one, once and in order, those to come too; ends after the final one. */
  streamEvents(id: string, options?: StreamOptions): AsyncIterable<FineTuningEvent>
  metrics(id: string, options: MetricsOptions): Promise<Page<StepMetrics>>
  samples(id: string, options: PageOptions): Promise<Page<SampleRecord>>
  checkpoints(id: string, options: PageOptions): Promise<Page<CheckpointRecord>>
  /** A LoRA's weights as safetensors. @throws {FineTuningError} `checkpoint_not_found`, `export_failed` */
  openAdapter(id: string, checkpointId: string): Promise<AdapterFile>
  /** @throws {FineTuningError} `wrong_state` */
  pause(id: string): Promise<FineTuningJob>
  resume(id: string): Promise<FineTuningJob>
  /** A final job stays as it is. */
  cancel(id: string): Promise<FineTuningJob>
  /** A final one, with its folder. @throws {FineTuningError} `wrong_state`, `in_use` */
  delete(id: string): Promise<void>
  /** @throws {FineTuningError} `checkpoint_not_found`, `export_failed` */
  deploy(id: string, checkpointId: string, name: string | undefined): Promise<Deployment>
}

export interface FineTuningService {
  readonly rates: Rates
  /** Where DiTs lie that a job may begin with; undefined: nowhere. */
  readonly sources: string | undefined
  of(caller: Pick<Caller, 'project'>): FineTuningJobs
  pictures(whose: Whose): Pictures
  /** What serves under which name is the installation's, not a project's. */
  readonly deployments: Pick<
    Deployments,
    'get' | 'list' | 'live' | 'allLive' | 'rollback' | 'withdraw' | 'delete'
  >
  figures(): Promise<FineTuningFigures>
  /** Takes nothing more, and saves what is at work, which goes back to the queue. */
  drain(): Promise<void>
  /** Saves what is at work, which goes on at the next start. Leaves storage and pool open. */
  close(): Promise<void>
}

export type FineTuningPool = PlanningView & Pick<Pool, 'deploy' | 'withdraw' | 'exportCheckpoint'>

export interface FineTuningServiceOptions {
  readonly storage: Storage
  /** Where it does not train, other processes run the jobs. */
  readonly pool: FineTuningPool | Pool
  readonly datasets: Pick<DatasetService, 'of'>
  readonly log: Logger
  /** Nothing is judged without it. */
  readonly policy?: ContentPolicy
  readonly dataDir: string
  readonly configured: readonly ModelFolder[]
  readonly rates: Rates
  /** Indices of CUDA devices, for their meters. */
  readonly gpus: readonly number[]
  /** Where DiTs lie that a job may begin with; undefined: nowhere. */
  readonly sources: string | undefined
  readonly maxMicroStepMs: number
  readonly tracing?: Tracing | undefined
}

/** Takes up what an earlier process left, and begins to run jobs. */
export async function startFineTuningService(options: FineTuningServiceOptions): Promise<FineTuningService> {
  const {
    storage,
    pool,
    datasets,
    log,
    policy = noPolicy,
    dataDir,
    rates,
    gpus,
    sources,
    maxMicroStepMs,
    tracing,
  } = options
  const store = new FineTuningStore(storage)
  const runs = new FineTuningRuns(storage)
  const reader = new FineTuningReader(storage)
  const deployments = new Deployments(options)
  const adapters = new Adapters(pool)
  const totals = new TrainingTotals()
  const jobsFolder = join(dataDir, 'fine-tuning')
  const foldersOf = (id: string): JobFolders => ({
    folder: join(jobsFolder, id),
    cacheDir: join(dataDir, 'cache'),
  })

  const { database, presence } = storage
  const validations = new Map<string, Promise<void>>()
  const takeUp = async ({ failed, validating }: Recovery): Promise<void> => {
    if (failed.length > 0) log.error({ failed }, 'gave up jobs under which the server died again and again')
    for (const id of validating) if (!validations.has(id)) beginValidation(await reader.get(everyProject, id))
  }
  const recovery = await (database.isShared ? runs.takeBack() : runs.recover())
  // Where others are at work, what no row knows may be what they are about to tell of.
  if (!database.isShared) {
    await deployments.sweep()
    await sweepJobs()
  }

  const news = new Announcements()
  const stopListening = await database.listen(
    jobChannel,
    (id) => news.announce(id),
    () => news.announceAll(),
  )
  const runner =
    'train' in pool
      ? await startRunner({
          storage,
          runs,
          reader,
          pool,
          meter: await openEnergyMeter(rates, gpus),
          log,
          foldersOf,
          maxMicroStepMs,
          totals,
          tracing,
        })
      : undefined
  let stopping: Promise<void> | undefined
  const stopRunner = async () => (stopping ??= runner?.close())

  function beginValidation(job: FineTuningJob): void {
    if (validations.has(job.id)) return
    const validation = validateJob(job)
      .catch((error: unknown) =>
        log.error({ err: error, job: job.id }, 'cannot write whether a job is valid; will try again'),
      )
      .finally(() => validations.delete(job.id))
    validations.set(job.id, validation)
  }

  async function validateJob(job: FineTuningJob): Promise<void> {
    try {
      const verdict = await validate(job, foldersOf(job.id).folder, datasets.of(job))
      if (verdict.kind === 'valid') await store.validated(job.id, verdict)
      else await store.refuse(job.id, verdict.error)
    } catch (error) {
      log.error({ err: error, job: job.id }, 'a job could not be validated')
      const failure: Failure =
        error instanceof DatasetError
          ? { code: 'bad_dataset', message: error.message }
          : { code: 'storage_failed', message: 'The job could not be prepared; the log has the details.' }
      await store.refuse(job.id, failure)
    }
  }

  await takeUp(recovery)
  const takingBack = oneAtATime(
    async () => takeUp(await runs.takeBack()),
    (error) => log.warn({ err: error }, 'cannot look for jobs that others left; will try again'),
  )
  const stopTakingBack = presence.onOthersGone(takingBack.begin)

  /** Folders of jobs that were deleted when a kill came between. */
  async function sweepJobs(): Promise<void> {
    for (const id of await readdir(jobsFolder).catch(() => [])) {
      if (isJobId(id) && !(await reader.find(everyProject, id)))
        await rm(join(jobsFolder, id), { recursive: true, force: true })
    }
  }

  async function planned(
    request: JobRequest,
    datasets: Datasets,
  ): Promise<PlannedJob & { readonly base: string }> {
    const model = findModel(request.model, pool.models)
    const base = await deployments.folderOf(model.name)
    if (base === undefined) throw new Error(`the folder of the model ${model.name} is not known`)
    const dataset = await requireDataset(datasets, request.datasetId)
    const footprint = await readFootprint(base)
    const parameters = completeJob(request.specification, {
      footprint,
      baseSize: model.baseSize,
      sources,
      randomSeed: randomInt(2 ** 48 - 1),
    })
    const { start } = parameters
    if (start.kind === 'dit' && sources !== undefined) await checkSource(start.folder, sources)
    await requireData({ ...request, parameters }, dataset, datasets)
    const plan = planJob({
      parameters,
      footprint,
      costs: pool.trainingCosts(model.name),
      pictures: dataset.counts.items,
      maxMicroStepMs,
      rates,
      measured: await reader.measuredStages(model.name),
    })
    return { model, base, parameters, plan }
  }

  /**
   * What its validation would find is told at once, as far as the dataset's rows tell it.
   * @throws {FineTuningError} `invalid_job`
   */
  async function requireData(
    job: Pick<FineTuningJob, 'datasetId' | 'onBadData' | 'parameters'>,
    { counts }: Dataset,
    datasets: Datasets,
  ): Promise<void> {
    const [badCaptions, ...stages] = await Promise.all([
      datasets.countBadCaptions(job.datasetId),
      ...job.parameters.stages.map(({ minAestheticScore }) =>
        datasets.countTrainable(job.datasetId, minAestheticScore),
      ),
    ])
    const { items: pictures, leftOut } = counts
    const fault = await findFault(job, { pictures, leftOut, badCaptions, stages }, datasets)
    if (fault) throw new FineTuningError('invalid_job', fault.message, { parameter: fault.parameter })
  }

  const pictures = (whose: Whose): Pictures => ({
    async openSample(id, sampleId) {
      await reader.get(whose, id)
      const { file } = await reader.sample(id, sampleId)
      return createReadStream(join(foldersOf(id).folder, file))
    },
  })

  function of({ project }: Pick<Caller, 'project'>): FineTuningJobs {
    const mine = datasets.of({ project })
    /** For those of one job. */
    const ofJob = async <T>(id: string, look: (job: FineTuningJob) => Promise<T>): Promise<T> =>
      look(await reader.get(project, id))

    return {
      ...pictures(project),
      async plan(request) {
        const { base: _, ...rest } = await planned(request, mine)
        return rest
      },
      async create({ requestId, ...request }) {
        const { model, base, parameters, plan } = await planned(request, mine)
        const { prompts } = parameters.samples
        await policy.checkTexts(
          Object.fromEntries(
            prompts.map(({ prompt }, index) => [`samples.prompts[${index}].prompt`, prompt]),
          ),
        )
        const wanted = {
          project,
          requestId,
          model: model.name,
          modelVersion: model.version,
          base,
          datasetId: request.datasetId,
          suffix: request.suffix,
          onBadData: request.onBadData,
          parameters,
          plan,
        }
        const job = await store.create(wanted, (transaction) =>
          mine.requireReady(transaction, request.datasetId),
        )
        beginValidation(job)
        return job
      },
      find: (id) => reader.find(project, id),
      list: (page) => reader.list(project, page),
      events: (id, page) => ofJob(id, () => reader.events(id, page)),
      streamEvents: (id, stream = {}) => streamEvents(id, stream, { project, reader, announcements: news }),
      metrics: (id, wanted) => ofJob(id, (job) => reader.metrics(job, wanted)),
      samples: (id, page) => ofJob(id, () => reader.samples(id, page)),
      checkpoints: (id, page) => ofJob(id, (job) => reader.checkpoints(job, page)),
      openAdapter: (id, checkpointId) =>
        ofJob(id, async (job) => {
          const checkpoint = await reader.checkpoint(job, checkpointId)
          return adapters.open(toTrainingJob(job, foldersOf(id), maxMicroStepMs), checkpoint)
        }),
      pause: (id) => store.pause(project, id),
      resume: (id) => store.resume(project, id),
      cancel: (id) => store.cancel(project, id),
      async delete(id) {
        await store.delete(project, id)
        // What a failure leaves here is found by the sweep at the next start.
        await rm(foldersOf(id).folder, { recursive: true, force: true }).catch((error: unknown) =>
          log.warn({ err: error, job: id }, "cannot delete a job's folder"),
        )
      },
      deploy: (id, checkpointId, name) =>
        ofJob(id, async (job) => {
          const checkpoint = await reader.checkpoint(job, checkpointId)
          return deployments.deploy(name ?? defaultName(job), {
            job: toTrainingJob(job, foldersOf(id), maxMicroStepMs),
            baseModel: job.model,
            checkpoint,
          })
        }),
    }
  }

  return {
    rates,
    sources,
    of,
    pictures,
    deployments,
    async figures() {
      return { jobs: await reader.countByState(), ...totals.now() }
    },
    drain: stopRunner,
    async close() {
      stopTakingBack()
      await takingBack.idle()
      await stopRunner()
      await Promise.all(validations.values())
      await stopListening()
    },
  }
}

/** @throws {FineTuningError} `unknown_model` */
function findModel(name: string, models: readonly ModelInfo[]): ModelInfo {
  const found = models.find((model) => model.name === name)
  if (found) return found
  const known = models.map((model) => model.name).join(', ')
  throw new FineTuningError('unknown_model', `there is no model ${JSON.stringify(name)}; there is ${known}`, {
    parameter: 'model',
  })
}

/** The model's name and the suffix; without one, the beginning of the job's id. */
const defaultName = ({ model, suffix, id }: FineTuningJob): string =>
  `${model}-${suffix ?? id.slice('ftjob_'.length, 'ftjob_'.length + 8)}`
