/**
 * What each picture takes: its share of the device's time, at the power that was drawn meanwhile.
 *
 * A GPU's power is its own device's. CPU packages are counted as a whole: what they took meanwhile is spread over the time, or over the
 * device time of all that worked there, where that is more.
 */
import type { EnergyUse } from './footprint.ts'
import { watchGpuPower } from './gpu-power.ts'
import { joulesBetween, powercapFolder, raplDomains, readRapl } from './rapl.ts'

export interface PowerMeter {
  /** From now on a device works at something, whichever it is. */
  begin(): Work
  close(): Promise<void>
}

export interface Work {
  /** @param deviceMs its share of the device's time */
  end(device: string, deviceMs: number): Promise<EnergyUse>
}

export interface PowerOptions {
  /** Of one device at work, where nothing can be measured. */
  readonly watts: number
  readonly devices: readonly {
    readonly name: string
    readonly provider: 'cpu' | 'cuda' | 'webgpu'
    readonly index?: number | undefined
  }[]
  /** How long all CPU devices together have worked so far. */
  readonly cpuBusyMs: () => number
  readonly raplFolder?: string
  readonly nvidiaSmi?: string
}

export async function openPowerMeter(options: PowerOptions): Promise<PowerMeter> {
  const { watts, devices, cpuBusyMs, raplFolder = powercapFolder, nvidiaSmi } = options
  const gpuOf = new Map(
    devices.flatMap(({ name, provider, index = 0 }) => (provider === 'cuda' ? [[name, index] as const] : [])),
  )
  const cpus = new Set(devices.filter(({ provider }) => provider === 'cpu').map(({ name }) => name))
  const domains = cpus.size > 0 ? await raplDomains(raplFolder) : []
  const gpus = gpuOf.size > 0 ? watchGpuPower([...gpuOf.values()], nvidiaSmi) : undefined

  /** @returns undefined where counters cannot be read (any more) */
  const readCpus = async () => {
    if (domains.length === 0) return undefined
    const busyMs = cpuBusyMs()
    const reading = await readRapl(domains).catch(() => undefined)
    return reading && { reading, busyMs }
  }

  return {
    begin() {
      const beganMs = performance.now()
      const beginning = readCpus()
      return {
        async end(device, deviceMs) {
          const seconds = deviceMs / 1000
          const gpu = gpuOf.get(device)
          if (gpu !== undefined) {
            const drawn = gpus?.wattsSince(gpu, beganMs)
            if (drawn !== undefined) return { joules: drawn * seconds, source: 'nvidia-smi' }
          }
          const [before, after] = cpus.has(device) ? [await beginning, await readCpus()] : []
          if (!before || !after) return { joules: watts * seconds, source: 'configured' }
          const elapsedMs = after.reading.atMs - before.reading.atMs
          const workedMs = Math.max(elapsedMs, after.busyMs - before.busyMs, deviceMs)
          const joules = joulesBetween(domains, before.reading, after.reading)
          return { joules: workedMs > 0 ? (joules * deviceMs) / workedMs : 0, source: 'rapl' }
        },
      }
    },
    close: async () => gpus?.close(),
  }
}
