/** Configuration → what each device process is started with. */
import { join } from 'node:path'
import type { Config } from '../config.ts'
import type { DeviceOptions } from '../engine/pool.ts'
import type { ModelFolder } from './model-folder.ts'

export function deviceOptions(config: Config, models: readonly ModelFolder[]): readonly DeviceOptions[] {
  const { devices, dataDir, precision, memoryLimitMib } = config
  return devices.map(({ name, ...device }) => ({
    name,
    device,
    models,
    cacheDir: join(dataDir, 'cache'),
    precision: precision === 'auto' ? (device.provider === 'cuda' ? 'float16' : 'float32') : precision,
    ...(memoryLimitMib === 0 ? {} : { memoryLimitBytes: memoryLimitMib * 2 ** 20 }),
  }))
}
