/** `atelier serve`: puts the service together, listens, and takes it apart again on SIGTERM or SIGINT. */
import type { Config } from '../config.ts'
import { startPool } from '../engine/pool.ts'
import { hasDeployments, modelsToServe } from '../fine-tuning/deployments.ts'
import { serveControl } from '../storage/control.ts'
import { openTracing } from '../tracing/tracing.ts'
import { openStorage } from '../storage/storage.ts'
import { deviceOptions, logDeviceEvent } from './devices.ts'
import { keyHandlers } from './key.ts'
import { untilNoticed, untilSignalled } from './lifetime.ts'
import { checkAddress, checkExposure } from './listen.ts'
import { createLog } from './log.ts'
import { findModels } from './model-folder.ts'
import { serveApi, storageOptions, worksWithOthers } from './services.ts'
import { statusOf } from './status.ts'

/** Runs until a signal ends it. @throws when the data folder is in use, the model is not usable or the port is taken */
export async function serve(config: Config): Promise<void> {
  const log = createLog(config)
  await untilSignalled(async ({ open, ending }) => {
    await checkAddress(config)
    const tracing = await openTracing(process.env, 'serve')
    if (tracing) await open(tracing)
    const configured = await findModels(config.models)
    const opening = open(openStorage(storageOptions(config, 'serve', log)))
    await checkExposure(config, opening)
    // Where nothing was ever deployed they start side by side: the one waits for the disk, the other for the weights.
    const mayBeDeployed = config.databaseUrl !== '' || hasDeployments(config.dataDir)
    const models = mayBeDeployed ? await modelsToServe(await opening, configured, log) : configured
    const [storage, started] = await Promise.all([
      opening,
      open(startPool(deviceOptions(config, models), (event) => logDeviceEvent(log, event))),
    ])
    const pool = storage.database.isShared
      ? await worksWithOthers({ storage, pool: started, log, configured, models }, open)
      : started
    const parts = { storage, pool, configured, config, log, tracing }
    const { address, access, services } = await serveApi(parts, { open, ending })
    const status = async () => statusOf(address, services.generation)
    // A lone process has the database to itself; commands ask it over this.
    if (!storage.database.isShared)
      await open(serveControl(config.dataDir, { status, ...keyHandlers(access.keys) }))
    console.log(greeting(config.publicUrl || address, models))
    await untilNoticed(ending, config, log)
  })
}

function greeting(address: string, models: readonly { readonly name: string }[]): string {
  const names = models.map(({ name }) => `"${name}"`).join(', ')
  const body = JSON.stringify({ prompt: 'a cat face on a dark blue background' })
  return [
    `Atelier serves ${models.length === 1 ? 'the model' : 'the models'} ${names} at ${address}`,
    'Try:',
    `  curl ${address}/v1/images/generations -H 'content-type: application/json' -d '${body}'`,
  ].join('\n')
}
