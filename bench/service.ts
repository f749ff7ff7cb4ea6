/** The whole service in this process, as `atelier serve` puts it together, on a free port and with its log in a file. */
import { basename, join } from 'node:path'
import { pino } from 'pino'
import { startAccessService } from '../src/access/service.ts'
import { fineTuningOptions } from '../src/commands/devices.ts'
import { readConfig } from '../src/config.ts'
import { startDatasetService } from '../src/datasets/service.ts'
import { startPool, type DeviceOptions } from '../src/engine/pool.ts'
import { startFineTuningService } from '../src/fine-tuning/service.ts'
import { startGenerationService } from '../src/generation/service.ts'
import { buildApp } from '../src/http/app.ts'
import { openStorage } from '../src/storage/storage.ts'
import { startWebhookService } from '../src/webhooks/service.ts'

export interface RunningService extends AsyncDisposable {
  readonly address: string
}

export interface ServiceSettings {
  /** An existing folder. */
  readonly dataDir: string
  /** A checkpoint's folder; its name is the model's. */
  readonly model: string
  /** The device is bound to as many cores; 0 takes all of them. */
  readonly threads: number
}

/** Ready for requests when it resolves; leaving the `await using` block ends it in order. */
export async function startService({ dataDir, model, threads }: ServiceSettings): Promise<RunningService> {
  const config = readConfig({ ATELIER_PORT: '0', ATELIER_DATA_DIR: dataDir })
  const log = pino({ level: config.logLevel }, pino.destination({ dest: join(dataDir, 'log'), sync: true }))
  await using opened = new AsyncDisposableStack()
  const own = <T extends { close(): PromiseLike<void> }>(part: T): T =>
    opened.adopt(part, async (closing) => closing.close())

  const device: DeviceOptions = {
    name: 'cpu',
    // The cores are what the device's number of threads is derived from.
    device: { provider: 'cpu', ...(threads === 0 ? {} : { cores: [0, threads - 1] }) },
    models: [{ name: basename(model), folder: model }],
    cacheDir: join(dataDir, 'cache'),
  }
  const storage = own(
    await openStorage({ dataDir, onError: (error) => log.error({ err: error }, 'the queue reports') }),
  )
  const pool = own(await startPool([device], (event) => log.info(event, 'the device tells')))
  const maxWaitMs = config.maxWaitSeconds * 1000
  const access = own(await startAccessService({ database: storage.database, log }))
  const generation = own(await startGenerationService({ storage, pool, log, maxWaitMs }))
  const datasets = own(await startDatasetService({ storage, log, dataDir, foldersRoot: '' }))
  const { models: configured } = device
  const fineTuning = own(
    await startFineTuningService({ storage, pool, datasets, log, configured, ...fineTuningOptions(config) }),
  )
  const webhooks = own(await startWebhookService({ storage, log, allowed: [] }))
  const app = own(
    await buildApp({
      access,
      generation,
      datasets,
      fineTuning,
      webhooks,
      config,
      urlKey: new Uint8Array(32),
      logger: log,
    }),
  )
  const address = await app.listen({ host: config.host, port: config.port })
  const parts = opened.move()
  return { address, [Symbol.asyncDispose]: () => parts.disposeAsync() }
}
