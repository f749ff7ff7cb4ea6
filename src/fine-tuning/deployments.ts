/**
 * What serves under which name. A deployment is an exported checkpoint under `<dataDir>/models`, and a row; of each name one is
 * live at most. Where none is, the configured model of that name serves, if there is one. Rows are the truth: a start serves
 * what they say.
 *
 *   deploy → live ─ another deploy → superseded ─ rollback of that one → live
 *              ├── rollback → rolled_back
 *              └── withdraw → withdrawn
 */
import { existsSync } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { EngineError, type ModelFolder, type Pool } from '../engine/pool.ts'
import type { TrainingJob } from '../training/job.ts'
import type { Deployment as DeploymentRow } from '../storage/client/client.ts'
import { notify, type Prisma } from '../storage/database.ts'
import type { Storage } from '../storage/storage.ts'
import { FineTuningError } from './errors.ts'
import { isDeploymentId, newDeploymentId } from './job.ts'
import type { Page, PageOptions } from './reader.ts'

export type Deployment = Omit<DeploymentRow, 'endedAt' | 'number'> & { readonly endedAt: Date | undefined }

export interface DeploySource {
  readonly job: TrainingJob
  readonly baseModel: string
  readonly checkpoint: { readonly id: string; readonly folder: string; readonly step: number }
}

/** Told when what serves under a name has changed; the payload is the name. */
export const deploymentChannel = 'atelier_deployment'

/** Where exported models lie. */
const modelsOf = (dataDir: string): string => join(dataDir, 'models')

/** Whether anything was ever deployed from this data folder. */
export const hasDeployments = (dataDir: string): boolean => existsSync(modelsOf(dataDir))

/**
 * The models to serve: those that are configured, and live deployments in their place and beside them. A deployment whose
 * files are gone is withdrawn, unless others share the rows, who may have them.
 */
export async function modelsToServe(
  storage: Storage,
  configured: readonly [ModelFolder, ...ModelFolder[]],
  log: Logger,
): Promise<readonly [ModelFolder, ...ModelFolder[]]> {
  const { deployment } = storage.database.prisma
  const live = new Map<string, ModelFolder>()
  for (const { id, name, folder } of await deployment.findMany({ where: { state: 'live' } })) {
    if (existsSync(join(folder, 'model_index.json'))) live.set(name, { name, folder })
    else {
      log.error({ deployment: id, name, folder }, 'the files of a deployment are not there; it is not served')
      if (storage.database.isShared) continue
      await deployment.update({ where: { id }, data: { state: 'withdrawn', endedAt: new Date() } })
    }
  }
  const [first, ...others] = configured.map((model) => live.get(model.name) ?? model)
  const added = [...live.values()].filter(({ name }) => !configured.some((model) => model.name === name))
  return [first ?? configured[0], ...others, ...added]
}

export interface DeploymentsOptions {
  readonly storage: Storage
  readonly pool: Pick<Pool, 'deploy' | 'withdraw' | 'exportCheckpoint'>
  readonly log: Logger
  readonly dataDir: string
  readonly configured: readonly ModelFolder[]
}

const defaultLimit = 20

export class Deployments {
  readonly #options: DeploymentsOptions
  /** One change at a time: what the pool serves and what the rows say must not part. */
  #last: Promise<unknown> = Promise.resolve()

  constructor(options: DeploymentsOptions) {
    this.#options = options
  }

  /** Where the model of this name lies that serves now; undefined when there is none. */
  async folderOf(name: string): Promise<string | undefined> {
    return (await this.live(name))?.folder ?? this.#configured(name)?.folder
  }

  async live(name: string): Promise<Deployment | undefined> {
    const row = await this.#rows.findFirst({ where: { name, state: 'live' } })
    return row ? toDeployment(row) : undefined
  }

  async allLive(): Promise<readonly Deployment[]> {
    return (await this.#rows.findMany({ where: { state: 'live' } })).map(toDeployment)
  }

  /** @throws {FineTuningError} `deployment_not_found` */
  async get(id: string): Promise<Deployment> {
    return toDeployment(await this.#find(id))
  }

  /** Newest first. @throws {FineTuningError} `deployment_not_found` when `after` names none */
  async list({
    after,
    limit = defaultLimit,
    name,
    jobId,
  }: PageOptions & {
    readonly name?: string | undefined
    readonly jobId?: string | undefined
  }): Promise<Page<Deployment>> {
    const before = after === undefined ? undefined : (await this.#find(after)).number
    const rows = await this.#rows.findMany({
      where: {
        ...(name !== undefined && { name }),
        ...(jobId !== undefined && { jobId }),
        ...(before !== undefined && { number: { lt: before } }),
      },
      orderBy: { number: 'desc' },
      take: limit + 1,
    })
    return { data: rows.slice(0, limit).map(toDeployment), hasMore: rows.length > limit }
  }

  /**
   * Exports a checkpoint and serves it under a name: new requests get it, and those that were begun end on what they began with.
   * @throws {FineTuningError} `export_failed`
   */
  async deploy(name: string, { job, baseModel, checkpoint }: DeploySource): Promise<Deployment> {
    const { pool, dataDir } = this.#options
    const id = newDeploymentId()
    const folder = join(modelsOf(dataDir), id)
    try {
      // It may take minutes, and a rollback must not wait for it.
      await pool.exportCheckpoint({ job, checkpoint: checkpoint.folder, out: folder, form: 'model' })
      return await this.#alone(async () => {
        const { version } = await pool.deploy({ name, folder })
        const origin = { baseModel, jobId: job.id, checkpointId: checkpoint.id, step: checkpoint.step }
        return this.#write({ id, name, folder, modelVersion: version, ...origin })
      })
    } catch (error) {
      await rm(folder, { recursive: true, force: true })
      throw asExportFailure(error)
    }
  }

  /** The new one serves already; when no row can say so, what the rows say serves again. */
  async #write(deployment: Prisma.DeploymentCreateInput): Promise<Deployment> {
    const { name } = deployment
    try {
      const row = await this.#database.$transaction(async (transaction) => {
        await transaction.deployment.updateMany({
          where: { name, state: 'live' },
          data: { state: 'superseded', endedAt: new Date() },
        })
        await notify(transaction, deploymentChannel, name)
        return transaction.deployment.create({ data: deployment })
      })
      return toDeployment(row)
    } catch (error) {
      const folder = await this.folderOf(name)
      if (folder === undefined) await this.#options.pool.withdraw(name)
      else await this.#options.pool.deploy({ name, folder })
      throw error
    }
  }

  /**
   * Serves again what served before: the deployment that the live one took the place of, or the configured model.
   * @throws {FineTuningError} `nothing_to_roll_back`, `export_failed`
   */
  rollback(name: string): Promise<Deployment | undefined> {
    return this.#alone(async () => {
      const live = await this.#rows.findFirst({ where: { name, state: 'live' } })
      if (!live)
        throw new FineTuningError('nothing_to_roll_back', `nothing is deployed as ${name}`, {
          parameter: 'id',
        })
      const previous = await this.#rows.findFirst({
        where: { name, state: 'superseded', number: { lt: live.number } },
        orderBy: { number: 'desc' },
      })
      const target = previous ? { name, folder: previous.folder } : this.#configured(name)
      if (!target)
        throw new FineTuningError(
          'nothing_to_roll_back',
          `nothing served as ${name} before this deployment; it can be withdrawn`,
          { parameter: 'id' },
        )
      await this.#serve(target)
      await this.#database.$transaction(async (transaction) => {
        const { id } = live
        await transaction.deployment.update({
          where: { id },
          data: { state: 'rolled_back', endedAt: new Date() },
        })
        if (previous)
          await transaction.deployment.update({
            where: { id: previous.id },
            data: { state: 'live', endedAt: null },
          })
        await notify(transaction, deploymentChannel, name)
      })
      return previous ? this.get(previous.id) : undefined
    })
  }

  /**
   * Takes away all that was deployed under a name: the configured model serves again, or nothing does.
   * @throws {FineTuningError} `nothing_to_roll_back`, `export_failed`
   */
  withdraw(name: string): Promise<Deployment> {
    return this.#alone(async () => {
      const live = await this.#rows.findFirst({ where: { name, state: 'live' } })
      if (!live)
        throw new FineTuningError('nothing_to_roll_back', `nothing is deployed as ${name}`, {
          parameter: 'id',
        })
      const configured = this.#configured(name)
      if (configured) await this.#serve(configured)
      else await this.#options.pool.withdraw(name)
      const withdrawn = { state: 'withdrawn', endedAt: new Date() } as const
      await this.#database.$transaction(async (transaction) => {
        await transaction.deployment.updateMany({
          where: { name, state: { in: ['live', 'superseded'] } },
          data: withdrawn,
        })
        await notify(transaction, deploymentChannel, name)
      })
      return this.get(live.id)
    })
  }

  /**
   * Removes one that is not live, with its files; it cannot be rolled back to any more.
   * @throws {FineTuningError} `deployment_not_found`, `in_use` while it serves or a job begins with it
   */
  delete(id: string): Promise<void> {
    return this.#alone(async () => {
      const { state, name, folder } = await this.#find(id)
      if (state === 'live')
        throw new FineTuningError('in_use', `it serves as ${name}; roll it back or withdraw it first`)
      const job = await this.#database.fineTuningJob.findFirst({
        where: { base: folder, finishedAt: null },
        select: { id: true },
      })
      if (job) throw new FineTuningError('in_use', `the job ${job.id} begins with it`)
      await this.#rows.delete({ where: { id } })
      await rm(folder, { recursive: true, force: true })
    })
  }

  /** Removes what an export that a kill cut short has left. Only at a start, before anything is deployed. */
  async sweep(): Promise<void> {
    const folder = modelsOf(this.#options.dataDir)
    const known = new Set((await this.#rows.findMany({ select: { id: true } })).map(({ id }) => id))
    for (const name of existsSync(folder) ? await readdir(folder) : []) {
      // What is being written has a longer name.
      const [id = ''] = name.split('.')
      if (isDeploymentId(id) && !known.has(name))
        await rm(join(folder, name), { recursive: true, force: true })
    }
  }

  async #serve(model: ModelFolder): Promise<void> {
    try {
      await this.#options.pool.deploy(model)
    } catch (error) {
      throw asExportFailure(error)
    }
  }

  #configured(name: string): ModelFolder | undefined {
    return this.#options.configured.find((model) => model.name === name)
  }

  async #find(id: string): Promise<DeploymentRow> {
    const row = await this.#rows.findUnique({ where: { id } })
    if (row) return row
    throw new FineTuningError('deployment_not_found', `there is no deployment ${id}`, { parameter: 'id' })
  }

  #alone<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#last.then(work)
    this.#last = mine.catch(() => undefined)
    return mine
  }

  get #database() {
    return this.#options.storage.database.prisma
  }

  get #rows() {
    return this.#database.deployment
  }
}

function toDeployment(row: DeploymentRow): Deployment {
  const { number: _, endedAt, ...deployment } = row
  return { ...deployment, endedAt: endedAt ?? undefined }
}

/** What a device says of a folder that it cannot open or make is for whoever asked. */
function asExportFailure(error: unknown): unknown {
  if (!(error instanceof EngineError)) return error
  return new FineTuningError('export_failed', error.message, { cause: error })
}
