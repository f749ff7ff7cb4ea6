/** Configuration → what each device process is started with. */
import { join } from 'node:path'
import type { Config, DeviceSetting } from '../config.ts'
import type { DeviceOptions } from '../engine/pool.ts'
import type { ModelFolder } from './model-folder.ts'

type Precision = Exclude<Config['precision'], 'auto'>

/** What models compute in there. */
export const precisionOn = (
  { provider }: Pick<DeviceSetting, 'provider'>,
  { precision }: Pick<Config, 'precision'>,
): Precision => (precision === 'auto' ? (provider === 'cuda' ? 'float16' : 'float32') : precision)

export function deviceOptions(config: Config, models: readonly ModelFolder[]): readonly DeviceOptions[] {
  const { devices, dataDir, memoryLimitMib } = config
  return devices.map(({ name, ...device }) => ({
    name,
    device,
    models,
    cacheDir: join(dataDir, 'cache'),
    precision: precisionOn(device, config),
    ...(memoryLimitMib === 0 ? {} : { memoryLimitBytes: memoryLimitMib * 2 ** 20 }),
  }))
}
