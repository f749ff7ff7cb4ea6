/** Who may call, and how often. */
import type { Logger } from 'pino'
import type { Database } from '../storage/database.ts'
import { openKeyring, type Keyring } from './keyring.ts'
import { Keys } from './keys.ts'
import { openRateWindows, type RateWindows } from './rate-windows.ts'

export interface AccessService {
  readonly keys: Keys
  readonly keyring: Pick<Keyring, 'hasKeys' | 'judge' | 'hasSeen'>
  readonly windows: Pick<RateWindows, 'take' | 'isSpent'>
  close(): Promise<void>
}

export interface AccessServiceOptions {
  readonly database: Database
  readonly log: Logger
}

export async function startAccessService({ database, log }: AccessServiceOptions): Promise<AccessService> {
  const keys = new Keys(database)
  const keyring = await openKeyring(database, keys, log)
  const windows = openRateWindows(database, log)
  return {
    keys,
    keyring,
    windows,
    async close() {
      windows.close()
      await keyring.close()
    },
  }
}
