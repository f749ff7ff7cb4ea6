/** `atelier worker`: devices without the API. It listens only for probes and for Prometheus. */
import { once } from 'node:events'
import type { Config } from '../config.ts'
import { startPool } from '../engine/pool.ts'
import { modelsToServe } from '../fine-tuning/deployments.ts'
import { buildWorkerApp } from '../http/worker-app.ts'
import { openTracing } from '../tracing/tracing.ts'
import { openStorage } from '../storage/storage.ts'
import { deviceOptions, logDeviceEvent } from './devices.ts'
import { untilSignalled } from './lifetime.ts'
import { checkAddress } from './listen.ts'
import { createLog } from './log.ts'
import { findModels } from './model-folder.ts'
import { requireServer, startServices, storageOptions, worksWithOthers } from './services.ts'

/** Runs until a signal ends it. @throws when the database is out of reach, the model is not usable or the port is taken */
export async function worker(config: Config): Promise<void> {
  requireServer(config, 'worker')
  const log = createLog(config)
  await untilSignalled(async ({ open, ending }) => {
    await checkAddress(config)
    const tracing = await openTracing(process.env, 'worker')
    if (tracing) await open(tracing)
    const configured = await findModels(config.models)
    const storage = await open(openStorage(storageOptions(config, 'worker', log)))
    const models = await modelsToServe(storage, configured, log)
    const started = await open(
      startPool(deviceOptions(config, models), (event) => logDeviceEvent(log, event)),
    )
    const pool = await worksWithOthers({ storage, pool: started, log, configured, models }, open)
    const { generation, fineTuning } = await startServices(
      { storage, pool, configured, config, log, tracing },
      open,
    )
    const app = await open(buildWorkerApp({ generation, fineTuning, ending, logger: log }))
    const address = await app.listen({ host: config.host, port: config.port })
    const names = models.map(({ name }) => `"${name}"`).join(', ')
    console.log(`Atelier's worker makes pictures with ${names}, and tells of itself at ${address}`)
    if (!ending.aborted) await once(ending, 'abort')
    log.info('told to end: finishing what is begun, and handing back the rest')
    await Promise.all([generation.drain(config.drainTimeoutSeconds * 1000), fineTuning.drain()])
    log.info('shutting down')
  })
}
