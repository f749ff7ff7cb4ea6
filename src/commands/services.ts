/** The services of a process, put together the same way whether it does everything or a part. */
import type { Logger } from 'pino'
import { startAccessService, type AccessService } from '../access/service.ts'
import { announceDevices } from '../cluster/announcement.ts'
import { serveTasks } from '../cluster/tasks.ts'
import { ConfigError, type Config } from '../config.ts'
import { startDatasetService, type DatasetService } from '../datasets/service.ts'
import type { ModelFolder, Pool } from '../engine/pool.ts'
import { openPowerMeter, type PowerOptions } from '../energy/power.ts'
import { datasetInUse } from '../fine-tuning/datasets.ts'
import { followDeployments } from '../fine-tuning/follow-deployments.ts'
import {
  startFineTuningService,
  type FineTuningPool,
  type FineTuningService,
} from '../fine-tuning/service.ts'
import { startGenerationService, type GenerationService } from '../generation/service.ts'
import { buildApp } from '../http/app.ts'
import { parseAllowed } from '../outbound/addresses.ts'
import type { ProcessKind } from '../storage/presence.ts'
import type { Storage, StorageOptions } from '../storage/storage.ts'
import { openContentPolicy, type PolicyOptions } from '../policy/service.ts'
import type { Tracing } from '../tracing/tracing.ts'
import { startWebhookService, type WebhookService } from '../webhooks/service.ts'
import { fineTuningOptions } from './devices.ts'
import type { Lifetime } from './lifetime.ts'

export interface Services {
  readonly generation: GenerationService
  readonly datasets: DatasetService
  readonly fineTuning: FineTuningService
  readonly webhooks: WebhookService
}

export interface ServiceParts {
  readonly storage: Storage
  /** Of this process, or what is to be had of others. */
  readonly pool: Pool | FineTuningPool
  readonly configured: readonly ModelFolder[]
  readonly config: Config
  readonly log: Logger
  readonly tracing?: Tracing | undefined
}

export const storageOptions = (config: Config, kind: ProcessKind, log: Logger): StorageOptions => ({
  dataDir: config.dataDir,
  blobs: config,
  databaseUrl: config.databaseUrl,
  kind,
  onError: (error) => log.error({ err: error }, 'the database or the queue reports'),
})

/** @throws {ConfigError} for a command that shares its work with others, without a database that can be shared */
export function requireServer({ databaseUrl }: Pick<Config, 'databaseUrl'>, command: string): void {
  if (databaseUrl !== '') return
  throw new ConfigError(
    `ATELIER_DATABASE_URL: expected a PostgreSQL server, which "atelier ${command}" shares with other processes, got none; "atelier serve" needs none`,
  )
}

export async function startServices(parts: ServiceParts, open: Lifetime['open']): Promise<Services> {
  const { storage, pool, configured, config, log, tracing } = parts
  const { dataDir, maxWaitSeconds, datasetsRoot: foldersRoot, maxDatasetMib } = config
  const policy = await openContentPolicy(policyOptions(config, log))
  const power = 'generate' in pool ? await open(openPowerMeter(powerOptions(config, pool))) : undefined
  const generation = await open(
    startGenerationService({
      storage,
      pool,
      log,
      policy,
      power,
      tracing,
      maxWaitMs: maxWaitSeconds * 1000,
      retentionMs: config.retentionSeconds * 1000,
    }),
  )
  const allowed = config.outboundAllow.flatMap((item) => parseAllowed(item) ?? [])
  const webhooks = await open(startWebhookService({ storage, log, allowed, tracing }))
  const datasets = await open(
    startDatasetService({
      storage,
      log,
      dataDir,
      foldersRoot,
      limits: { maxTotalBytes: maxDatasetMib * 2 ** 20 },
      inUse: datasetInUse,
    }),
  )
  const fineTuning = await open(
    startFineTuningService({
      storage,
      pool,
      datasets,
      log,
      policy,
      tracing,
      configured,
      ...fineTuningOptions(config),
    }),
  )
  return { generation, datasets, fineTuning, webhooks }
}

/** Puts the API before the services, and listens. @returns where, and what the answers come from */
export async function serveApi(
  parts: ServiceParts,
  { open, ending }: Lifetime,
): Promise<{ readonly address: string; readonly access: AccessService; readonly services: Services }> {
  const { storage, config, log, tracing } = parts
  const access = await open(startAccessService({ database: storage.database, log }))
  const services = await startServices(parts, open)
  const urlKey = storage.installation.keyFor('signed addresses')
  const app = await open(buildApp({ ...services, access, config, urlKey, ending, tracing, logger: log }))
  return { address: await app.listen({ host: config.host, port: config.port }), access, services }
}

function powerOptions({ deviceWatts: watts, devices }: Config, pool: Pick<Pool, 'devices'>): PowerOptions {
  const cpus = new Set(devices.filter(({ provider }) => provider === 'cpu').map(({ name }) => name))
  const cpuBusyMs = () =>
    pool.devices
      .filter(({ name }) => cpus.has(name))
      .reduce((sum, { load }) => sum + load.servingMs + load.training.deviceMs, 0)
  return { watts, devices, cpuBusyMs }
}

function policyOptions(config: Config, log: Logger): PolicyOptions {
  const { moderationUrl: url, moderationKey: key, moderationModel: model } = config
  const timeoutMs = config.moderationTimeoutSeconds * 1000
  const ofPictures = config.moderationOf === 'everything'
  return {
    blockListFile: config.blockList,
    moderation: url === '' ? undefined : { url, key, model, timeoutMs, ofPictures },
    onFailure: config.moderationOnFailure,
    log,
  }
}

export interface SharingParts {
  readonly storage: Storage
  readonly pool: Pool
  readonly log: Logger
  readonly configured: readonly [ModelFolder, ...ModelFolder[]]
  /** What the pool was started with. */
  readonly models: readonly ModelFolder[]
}

/** Tells the others of the pool, serves what they deploy and does what they ask for. @returns the pool to work with from then on */
export async function worksWithOthers(
  { storage, pool, log, configured, models }: SharingParts,
  open: Lifetime['open'],
): Promise<Pool> {
  await open(announceDevices(storage.presence, pool, log))
  const following = await open(followDeployments({ storage, pool, log, configured, serving: models }))
  await open(serveTasks(storage, following.pool, log))
  return following.pool
}
