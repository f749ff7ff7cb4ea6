/** Configuration → what each device process is started with; what devices tell → lines. */
import { cpus } from 'node:os'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { ConfigError, type Config, type DeviceSetting } from '../config.ts'
import type { DeviceEvent, DeviceOptions } from '../engine/pool.ts'
import type { FineTuningServiceOptions } from '../fine-tuning/service.ts'
import type { ModelFolder } from './model-folder.ts'

type Precision = Exclude<Config['precision'], 'auto'>

/** What models compute in there. */
export const precisionOn = (
  { provider }: Pick<DeviceSetting, 'provider'>,
  { precision }: Pick<Config, 'precision'>,
): Precision => (precision === 'auto' ? (provider === 'cuda' ? 'float16' : 'float32') : precision)

/** @throws {ConfigError} when a device asks for cores that are not there */
export function deviceOptions(config: Config, models: readonly ModelFolder[]): readonly DeviceOptions[] {
  const { devices, dataDir, memoryLimitMib, trainShare } = config
  const last = cpus().length - 1
  for (const { name, cores } of devices) {
    if (cores && cores[1] > last)
      throw new ConfigError(
        `ATELIER_DEVICES: expected cores from 0 to ${last}, which this machine has, got ${name}`,
      )
  }
  return devices.map(({ name, ...device }) => ({
    name,
    device,
    models,
    cacheDir: join(dataDir, 'cache'),
    precision: precisionOn(device, config),
    trainingShare: trainShare,
    ...(memoryLimitMib === 0 ? {} : { memoryLimitBytes: memoryLimitMib * 2 ** 20 }),
  }))
}

/** Configuration → what fine-tuning goes by. */
export function fineTuningOptions(
  config: Config,
): Pick<FineTuningServiceOptions, 'dataDir' | 'rates' | 'gpus' | 'sources' | 'maxMicroStepMs'> {
  const { dataDir, devices, trainSources, maxTrainMicroStepMs, costPerDeviceHour } = config
  return {
    dataDir,
    maxMicroStepMs: maxTrainMicroStepMs,
    sources: trainSources === '' ? undefined : trainSources,
    gpus: devices.flatMap(({ provider, index = 0 }) => (provider === 'cuda' ? [index] : [])),
    rates: {
      watts: config.deviceWatts,
      gramsPerKwh: config.co2GramsPerKwh,
      costPerDeviceHour: costPerDeviceHour === 'none' ? undefined : costPerDeviceHour,
    },
  }
}

/** What of a device a command tells of. */
export function tellDevice(event: DeviceEvent, tell: (line: string) => void): void {
  switch (event.kind) {
    case 'note':
      return tell(`${event.device}: ${event.message}`)
    case 'died':
      return tell(`${event.device}: the process died (${event.reason}) and is started again`)
    case 'plan':
    case 'ready':
      return
  }
}

/** What of a device goes into the log. */
export function logDeviceEvent(log: Logger, event: DeviceEvent): void {
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
