/** Looks at jobs and what belongs to them, and changes none. Pages are OpenAI's: `after` an id, and whether there is more. */
import { ownedBy, type Project, type Whose } from '../access/project.ts'
import type { Storage } from '../storage/storage.ts'
import { FineTuningError } from './errors.ts'
import { toEvent, type FineTuningEvent } from './events.ts'
import { toJob, type FineTuningJob } from './job.ts'
import type { MeasuredStage } from './plan.ts'
import { overallStep, placeOf, type JobParameters } from './specification.ts'
import { fineTuningStates, type FineTuningState } from './states.ts'
import type { NewCheckpoint, NewSample } from './told.ts'

export interface PageOptions {
  /** Id of the last one of the page before. */
  readonly after?: string | undefined
  readonly limit?: number | undefined
}

export interface Page<T> {
  readonly data: readonly T[]
  readonly hasMore: boolean
}

export interface StepMetrics {
  /** Through all stages, from 1. */
  readonly step: number
  readonly stage: number
  readonly stageStep: number
  readonly loss: number
  readonly gradientNorm: number
  readonly learningRate: number
  readonly imagesPerSecond: number
  readonly deviceMs: number
}

export interface MetricsOptions {
  /** Only later steps. */
  readonly after?: number | undefined
  readonly limit?: number | undefined
  /** Only each step that is a multiple of it. */
  readonly every?: number | undefined
}

export interface SampleRecord extends NewSample {
  readonly id: string
  readonly jobId: string
  readonly createdAt: Date
}

export interface CheckpointRecord extends NewCheckpoint {
  readonly id: string
  readonly jobId: string
  readonly createdAt: Date
  /** Of its last step; undefined when that was not written. */
  readonly metrics: StepMetrics | undefined
}

const defaultLimit = 20
/** Jobs that a plan is measured by, steps of each stage, and steps below which one tells nothing. */
const [measuredJobs, measuredSteps, leastMeasuredSteps] = [10, 200, 3]
const defaultMetrics = 1_000
/** What one look at the table of events gives at most. */
export const eventsAtOnce = 500

export class FineTuningReader {
  readonly #storage: Storage

  constructor(storage: Storage) {
    this.#storage = storage
  }

  async find(whose: Whose, id: string): Promise<FineTuningJob | undefined> {
    return (await this.withEventCount(whose, id))?.job
  }

  /** @throws {FineTuningError} `job_not_found` */
  async get(whose: Whose, id: string): Promise<FineTuningJob> {
    const job = await this.find(whose, id)
    if (!job) throw new FineTuningError('job_not_found', `there is no job ${id}`, { parameter: 'id' })
    return job
  }

  async withEventCount(
    whose: Whose,
    id: string,
  ): Promise<{ readonly job: FineTuningJob; readonly eventCount: number } | undefined> {
    const row = await this.#prisma.fineTuningJob.findUnique({ where: { id, ...ownedBy(whose) } })
    return row ? { job: toJob(row), eventCount: row.eventCount } : undefined
  }

  /** Newest first. @throws {FineTuningError} `job_not_found` when `after` names none */
  async list(
    project: Project,
    { after, limit = defaultLimit, state }: PageOptions & { readonly state?: FineTuningState | undefined },
  ): Promise<Page<FineTuningJob>> {
    const before = after === undefined ? undefined : (await this.get(project, after)).number
    const rows = await this.#prisma.fineTuningJob.findMany({
      where: { project, ...(state && { state }), ...(before !== undefined && { number: { lt: before } }) },
      orderBy: { number: 'desc' },
      take: limit + 1,
    })
    return page(rows.map(toJob), limit)
  }

  // What follows is of one job that was found before, by whoever may see it.

  /** The next events after one, in order; not all of them when there are many. */
  async eventsAfter(jobId: string, sequence: number): Promise<FineTuningEvent[]> {
    const rows = await this.#prisma.fineTuningEvent.findMany({
      where: { jobId, sequence: { gt: sequence } },
      orderBy: { sequence: 'asc' },
      take: eventsAtOnce,
    })
    return rows.map(toEvent)
  }

  /** Newest first. @param before the sequence of the last one of the page before */
  async events(
    jobId: string,
    { before, limit = defaultLimit }: { before?: number | undefined; limit?: number | undefined },
  ): Promise<Page<FineTuningEvent>> {
    const rows = await this.#prisma.fineTuningEvent.findMany({
      where: { jobId, ...(before !== undefined && { sequence: { lt: before } }) },
      orderBy: { sequence: 'desc' },
      take: limit + 1,
    })
    return page(rows.map(toEvent), limit)
  }

  /** In the order of the steps. */
  async metrics(
    { number, parameters }: Pick<FineTuningJob, 'number' | 'parameters'>,
    { after = 0, limit = defaultMetrics, every = 1 }: MetricsOptions,
  ): Promise<Page<StepMetrics>> {
    const rows = await this.#prisma.$queryRaw<Omit<StepMetrics, 'stage' | 'stageStep'>[]>`
      SELECT "step", "loss", "gradientNorm", "learningRate", "imagesPerSecond", "deviceMs" FROM "FineTuningMetric"
      WHERE "jobNumber" = ${number} AND "step" > ${after} AND "step" % ${every} = 0
      ORDER BY "step" LIMIT ${limit + 1}`
    return page(
      rows.map((row) => ({ ...row, ...placeOf(parameters, row.step) })),
      limit,
    )
  }

  /** In the order of the steps and prompts. @throws {FineTuningError} `sample_not_found` when `after` names none */
  async samples(jobId: string, { after, limit = defaultLimit }: PageOptions): Promise<Page<SampleRecord>> {
    const last = after === undefined ? undefined : await this.sample(jobId, after)
    const rows = await this.#prisma.fineTuningSample.findMany({
      where: {
        jobId,
        ...(last && {
          OR: [{ step: { gt: last.step } }, { step: last.step, index: { gt: last.index } }],
        }),
      },
      orderBy: [{ step: 'asc' }, { index: 'asc' }],
      take: limit + 1,
    })
    return page(
      rows.map(({ seed, ...row }) => ({ ...row, seed: Number(seed) })),
      limit,
    )
  }

  /** @throws {FineTuningError} `sample_not_found` */
  async sample(jobId: string, id: string): Promise<SampleRecord> {
    const row = await this.#prisma.fineTuningSample.findUnique({ where: { id, jobId } })
    if (!row)
      throw new FineTuningError('sample_not_found', `the job has no sample ${id}`, { parameter: 'sample' })
    return { ...row, seed: Number(row.seed) }
  }

  /** Newest first. @throws {FineTuningError} `checkpoint_not_found` when `after` names none */
  async checkpoints(
    job: Pick<FineTuningJob, 'id' | 'number' | 'parameters'>,
    { after, limit = defaultLimit }: PageOptions,
  ): Promise<Page<CheckpointRecord>> {
    const before = after === undefined ? undefined : (await this.checkpoint(job, after)).step
    const rows = await this.#prisma.fineTuningCheckpoint.findMany({
      where: { jobId: job.id, ...(before !== undefined && { step: { lt: before } }) },
      orderBy: { step: 'desc' },
      take: limit + 1,
    })
    const metrics = await this.#metricsAt(
      job,
      rows.map(({ step }) => step),
    )
    return page(
      rows.map((row) => ({ ...row, sizeBytes: Number(row.sizeBytes), metrics: metrics.get(row.step) })),
      limit,
    )
  }

  async foldersOfCheckpoints(jobId: string): Promise<readonly string[]> {
    const rows = await this.#prisma.fineTuningCheckpoint.findMany({
      where: { jobId },
      select: { folder: true },
    })
    return rows.map(({ folder }) => folder)
  }

  /** @param id or `latest`. @throws {FineTuningError} `checkpoint_not_found` */
  async checkpoint(
    job: Pick<FineTuningJob, 'id' | 'number' | 'parameters'>,
    id: string,
  ): Promise<CheckpointRecord> {
    const row = await this.#prisma.fineTuningCheckpoint.findFirst({
      where: { jobId: job.id, ...(id !== 'latest' && { id }) },
      orderBy: { step: 'desc' },
    })
    if (!row)
      throw new FineTuningError('checkpoint_not_found', `the job has no checkpoint ${id}`, {
        parameter: 'checkpoint',
      })
    const metrics = await this.#metricsAt(job, [row.step])
    return { ...row, sizeBytes: Number(row.sizeBytes), metrics: metrics.get(row.step) }
  }

  /** What the first steps of the newest jobs took, each stage by its median. */
  async measuredStages(model: string): Promise<readonly MeasuredStage[]> {
    const rows = await this.#prisma.fineTuningJob.findMany({
      where: { model, step: { gte: leastMeasuredSteps } },
      orderBy: { number: 'desc' },
      take: measuredJobs,
    })
    const perJob = await Promise.all(
      rows.map(async (row) => {
        const { number, parameters } = toJob(row)
        const ranges = parameters.stages.map(({ steps }, stage) => ({
          stage,
          first: overallStep(parameters, stage, 1),
          last: overallStep(parameters, stage, Math.min(steps, measuredSteps)),
        }))
        const medians = await this.#prisma.$queryRaw<{ stage: number; stepMs: number }[]>`
          SELECT range."stage", percentile_cont(0.5) WITHIN GROUP (ORDER BY metric."deviceMs") AS "stepMs"
          FROM jsonb_to_recordset(${JSON.stringify(ranges)}::jsonb) AS range("stage" int, "first" int, "last" int)
          JOIN "FineTuningMetric" AS metric
            ON metric."jobNumber" = ${number} AND metric."step" BETWEEN range."first" AND range."last"
          GROUP BY range."stage" HAVING count(*) >= ${leastMeasuredSteps} ORDER BY range."stage"`
        return medians.flatMap(({ stage: index, stepMs }) => {
          const stage = parameters.stages[index]
          return stage && stepMs > 0 ? [{ method: parameters.method.kind, stage, stepMs }] : []
        })
      }),
    )
    return perJob.flat()
  }

  async countByState(): Promise<Readonly<Record<FineTuningState, number>>> {
    const counts = await this.#prisma.fineTuningJob.groupBy({ by: 'state', _count: true })
    const of = (state: FineTuningState) => counts.find((count) => count.state === state)?._count ?? 0
    return Object.fromEntries(fineTuningStates.map((state) => [state, of(state)])) as Record<
      FineTuningState,
      number
    >
  }

  async #metricsAt(
    { number, parameters }: { readonly number: number; readonly parameters: JobParameters },
    steps: readonly number[],
  ): Promise<ReadonlyMap<number, StepMetrics>> {
    const rows = await this.#prisma.fineTuningMetric.findMany({
      where: { jobNumber: number, step: { in: [...steps] } },
    })
    return new Map(
      rows.map((row) => {
        const { jobNumber: _, ...metrics } = row
        return [row.step, { ...metrics, ...placeOf(parameters, row.step) }]
      }),
    )
  }

  get #prisma() {
    return this.#storage.database.prisma
  }
}

/** @param rows one more than the limit when there is more */
const page = <T>(rows: readonly T[], limit: number): Page<T> => ({
  data: rows.slice(0, limit),
  hasMore: rows.length > limit,
})
