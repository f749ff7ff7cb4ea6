/** `atelier api`: HTTP without devices. Workers make the pictures; the database is what they share. */
import { openDirectory } from '../cluster/directory.ts'
import { openRemotePool } from '../cluster/tasks.ts'
import type { Config } from '../config.ts'
import { openTracing } from '../tracing/tracing.ts'
import { openStorage } from '../storage/storage.ts'
import { untilNoticed, untilSignalled } from './lifetime.ts'
import { checkAddress, checkExposure } from './listen.ts'
import { createLog } from './log.ts'
import { findModels } from './model-folder.ts'
import { requireServer, serveApi, storageOptions } from './services.ts'

/** Runs until a signal ends it. @throws when the database is out of reach or the port is taken */
export async function api(config: Config): Promise<void> {
  requireServer(config, 'api')
  const log = createLog(config)
  await untilSignalled(async ({ open, ending }) => {
    await checkAddress(config)
    const tracing = await openTracing(process.env, 'api')
    if (tracing) await open(tracing)
    const configured = await findModels(config.models)
    const storage = await open(openStorage(storageOptions(config, 'api', log)))
    await checkExposure(config, Promise.resolve(storage))
    const directory = await open(openDirectory(storage, log))
    const remote = await open(openRemotePool(storage))
    const pool = Object.assign(Object.create(directory.pool) as typeof directory.pool, remote)
    const parts = { storage, pool, configured, config, log, tracing }
    const { address } = await serveApi(parts, { open, ending })
    console.log(`Atelier's API listens at ${address}`)
    await untilNoticed(ending, config, log)
  })
}
