/** A worker tells the others what it makes pictures with, in its row of the processes; whenever that changes, and no more often than this. */
import type { Logger } from 'pino'
import type { DeviceStatus, Pool, ServedModel } from '../engine/pool.ts'
import type { Prisma } from '../storage/database.ts'
import { oneAtATime } from '../storage/one-at-a-time.ts'
import type { Presence } from '../storage/presence.ts'

/** What the column `serves` of a worker's process holds. */
export interface Announced {
  readonly models: readonly ServedModel[]
  readonly devices: readonly DeviceStatus[]
}

const tellEveryMs = 2_000

export interface Announcement {
  close(): Promise<void>
}

export async function announceDevices(
  presence: Presence,
  pool: Pick<Pool, 'serves' | 'devices'>,
  log: Logger,
): Promise<Announcement> {
  let told = ''
  const tell = async (): Promise<void> => {
    const announced: Announced = { models: pool.serves, devices: pool.devices }
    const json = JSON.stringify(announced)
    if (json === told) return
    await presence.publish(JSON.parse(json) as Prisma.InputJsonObject)
    told = json
  }
  await tell()
  const telling = oneAtATime(tell, (error) =>
    log.warn({ err: error }, 'cannot tell of the devices; will try again'),
  )
  const timer = setInterval(telling.begin, tellEveryMs)
  return {
    async close() {
      clearInterval(timer)
      await telling.idle()
    },
  }
}
