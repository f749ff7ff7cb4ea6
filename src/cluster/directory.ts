/**
 * The devices of all workers, as an API process sees them. While no worker is there, what the last one served is still known, so that
 * requests can be accepted for those that come.
 */
import type { Logger } from 'pino'
import { viewOf, type PlanningView } from '../engine/pool.ts'
import { oneAtATime } from '../storage/one-at-a-time.ts'
import { processChannel } from '../storage/presence.ts'
import type { Storage } from '../storage/storage.ts'
import type { Announced } from './announcement.ts'

const lookEveryMs = 2_000

export interface Directory {
  readonly pool: PlanningView
  close(): Promise<void>
}

export async function openDirectory(
  { database, presence }: Pick<Storage, 'database' | 'presence'>,
  log: Logger,
): Promise<Directory> {
  let known: Announced = { models: [], devices: [] }
  const look = async (): Promise<void> => {
    const workers = (await presence.workers()).map(({ serves, ...worker }) => ({
      ...worker,
      ...(serves as unknown as Announced),
    }))
    known = {
      models: merge(workers.map(({ models }) => models)),
      devices: workers.flatMap(({ host, devices, isGone }) =>
        isGone ? [] : devices.map((device) => ({ ...device, name: `${host}/${device.name}` })),
      ),
    }
  }
  const looking = oneAtATime(look, (error) =>
    log.warn({ err: error }, 'cannot look for workers; will try again'),
  )
  const stopListening = await database.listen(processChannel, looking.begin, looking.begin)
  await look()
  const timer = setInterval(looking.begin, lookEveryMs)
  return {
    pool: viewOf(
      () => known.models,
      () => known.devices,
    ),
    async close() {
      clearInterval(timer)
      await stopListening()
      await looking.idle()
    },
  }
}

/** Of each name one: of a worker that has it loaded, if there is one. The order is the first worker's. */
function merge(told: readonly Announced['models'][]): Announced['models'] {
  const models = new Map<string, Announced['models'][number]>()
  for (const model of told.flat()) {
    const before = models.get(model.info.name)
    if (!before || (before.info.state === 'unloaded' && model.info.state === 'loaded'))
      models.set(model.info.name, model)
  }
  return [...models.values()]
}
