/** A worker serves what the rows say, whichever process has changed them: at its start, when it is told, and now and then. */
import type { Logger } from 'pino'
import type { ModelFolder, Pool } from '../engine/pool.ts'
import { oneAtATime } from '../storage/one-at-a-time.ts'
import type { Storage } from '../storage/storage.ts'
import { deploymentChannel, modelsToServe } from './deployments.ts'

const lookAgainMs = 15_000

export interface FollowOptions {
  readonly storage: Storage
  readonly pool: Pool
  readonly log: Logger
  readonly configured: readonly [ModelFolder, ...ModelFolder[]]
  /** What the pool was started with. */
  readonly serving: readonly ModelFolder[]
}

export interface Following {
  /** The same pool: what is changed through it is known here. */
  readonly pool: Pool
  close(): Promise<void>
}

export async function followDeployments(options: FollowOptions): Promise<Following> {
  const { storage, pool, log, configured } = options
  const serving = new Map(options.serving.map(({ name, folder }) => [name, folder]))
  let again = false

  const followed: Pick<Pool, 'deploy' | 'withdraw'> = {
    async deploy(model) {
      const info = await pool.deploy(model)
      serving.set(model.name, model.folder)
      return info
    },
    async withdraw(name) {
      await pool.withdraw(name)
      serving.delete(name)
    },
  }

  async function follow(): Promise<void> {
    const wanted = await modelsToServe(storage, configured, log)
    for (const model of wanted) {
      if (serving.get(model.name) === model.folder) continue
      await followed.deploy(model)
      log.info({ model: model.name, folder: model.folder }, 'serving what was deployed')
    }
    for (const name of serving.keys())
      if (!wanted.some((model) => model.name === name)) await followed.withdraw(name)
  }

  const following = oneAtATime(
    async () => {
      while (again) {
        again = false
        await follow()
      }
    },
    (error) => log.error({ err: error }, 'cannot serve what was deployed; will try again'),
  )

  function look(): void {
    again = true
    following.begin()
  }

  const stopListening = await storage.database.listen(deploymentChannel, look, look)
  const timer = setInterval(look, lookAgainMs)
  look()
  return {
    pool: Object.assign(Object.create(pool) as Pool, followed),
    async close() {
      clearInterval(timer)
      again = false
      await stopListening()
      await following.idle()
    },
  }
}
