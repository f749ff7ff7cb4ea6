/** `atelier serve`: puts the service together, listens, and takes it apart again on SIGTERM or SIGINT. */
import { once } from 'node:events'
import type { Logger } from 'pino'
import { startAccessService } from '../access/service.ts'
import type { Config } from '../config.ts'
import { createLog } from './log.ts'
import { startPool, type DeviceEvent } from '../engine/pool.ts'
import { startDatasetService } from '../datasets/service.ts'
import { datasetInUse } from '../fine-tuning/datasets.ts'
import { hasDeployments, modelsToServe } from '../fine-tuning/deployments.ts'
import { startFineTuningService } from '../fine-tuning/service.ts'
import { startGenerationService } from '../generation/service.ts'
import { buildApp } from '../http/app.ts'
import { parseAllowed } from '../outbound/addresses.ts'
import { startWebhookService } from '../webhooks/service.ts'
import { serveControl } from '../storage/control.ts'
import { openStorage } from '../storage/storage.ts'
import { deviceOptions, fineTuningOptions } from './devices.ts'
import { keyHandlers } from './key.ts'
import { checkAddress, checkExposure } from './listen.ts'
import { findModels } from './model-folder.ts'
import { statusOf } from './status.ts'

/** Runs until a signal ends it. @throws when the data folder is in use, the model is not usable or the port is taken */
export async function serve(config: Config): Promise<void> {
  const log = createLog(config)
  const closers: (() => Promise<void>)[] = []
  const open = async <T extends { close(): Promise<void> | void }>(opening: PromiseLike<T>): Promise<T> => {
    const opened = await opening
    closers.push(async () => opened.close())
    return opened
  }
  // Before anything that takes time, so that a signal during the start ends it in order too.
  const signalled = Promise.race([once(process, 'SIGTERM'), once(process, 'SIGINT')])
  try {
    await checkAddress(config)
    const configured = await findModels(config.models)
    const { dataDir, maxWaitSeconds, datasetsRoot: foldersRoot, maxDatasetMib } = config
    const onError = (error: Error) => log.error({ err: error }, 'the queue reports')
    const opening = open(openStorage({ dataDir, blobs: config, onError }))
    await checkExposure(config, opening)
    // Where nothing was ever deployed they start side by side: the one waits for the disk, the other for the weights.
    const models = hasDeployments(dataDir) ? await modelsToServe(await opening, configured, log) : configured
    const [storage, pool] = await Promise.all([
      opening,
      open(startPool(deviceOptions(config, models), (event) => logDeviceEvent(log, event))),
    ])
    const access = await open(startAccessService({ database: storage.database, log }))
    const generation = await open(
      startGenerationService({
        storage,
        pool,
        log,
        maxWaitMs: maxWaitSeconds * 1000,
        retentionMs: config.retentionSeconds * 1000,
      }),
    )
    const allowed = config.outboundAllow.flatMap((item) => parseAllowed(item) ?? [])
    const webhooks = await open(startWebhookService({ storage, log, allowed }))
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
      startFineTuningService({ storage, pool, datasets, log, configured, ...fineTuningOptions(config) }),
    )
    const urlKey = storage.installation.keyFor('signed addresses')
    const app = await open(
      buildApp({ access, generation, datasets, fineTuning, webhooks, config, urlKey, logger: log }),
    )
    const address = await app.listen({ host: config.host, port: config.port })
    const status = async () => statusOf(address, generation)
    await open(serveControl(dataDir, { status, ...keyHandlers(access.keys) }))
    console.log(greeting(config.publicUrl || address, models))
    await signalled
    log.info('shutting down')
  } finally {
    // A second signal does not wait. One that comes at once is the first, sent to the whole group and passed on as well.
    const sinceMs = performance.now()
    const leave = () => performance.now() - sinceMs > 1_000 && process.exit(1)
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, leave)
    for (const close of closers.toReversed()) await close()
  }
  // PGlite and the like keep no promise to let the event loop run dry.
  process.exit(0)
}

function logDeviceEvent(log: Logger, event: DeviceEvent): void {
  switch (event.kind) {
    case 'note':
      return log.warn({ device: event.device }, event.message)
    case 'plan': {
      const [memory, peaks] = event.lines
      return log.info({ device: event.device, model: event.model, peaks }, memory)
    }
    case 'died':
      return log.error(
        { device: event.device, reason: event.reason, requests: event.requests },
        'the device process died and is started again',
      )
    case 'ready': {
      const models = event.models.map(({ name, version, state }) => ({ name, version, state }))
      return log.info({ device: event.device, devicePid: event.pid, models }, 'device ready')
    }
  }
}

function greeting(address: string, models: readonly { readonly name: string }[]): string {
  const names = models.map(({ name }) => `"${name}"`).join(', ')
  const body = JSON.stringify({ prompt: 'a small cactus with a happy face' })
  return [
    `Atelier serves ${models.length === 1 ? 'the model' : 'the models'} ${names} at ${address}`,
    'Try:',
    `  curl ${address}/v1/images/generations -H 'content-type: application/json' -d '${body}'`,
  ].join('\n')
}
