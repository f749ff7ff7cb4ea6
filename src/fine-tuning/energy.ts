/**
 * What a device's time costs: energy from the machine's own meters where they can be read, else from a configured power; grams of CO₂
 * and money by configured factors.
 */
import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

export type EnergySource = 'rapl' | 'nvidia-smi' | 'configured'

export interface EnergyUse {
  readonly joules: number
  readonly source: EnergySource
}

/** Tells what device time took, called now and then while there is some. */
export interface EnergyMeter {
  /** @param deviceMs of the job since the last call, which may have been in parallel on several devices */
  take(deviceMs: number): Promise<EnergyUse>
}

export interface Rates {
  /** Of one device at work. */
  readonly watts: number
  readonly gramsPerKwh: number
  /** Undefined: nothing is said of money. */
  readonly costPerDeviceHour: number | undefined
}

export interface Footprint {
  readonly deviceHours: number
  readonly kwh: number
  readonly co2Grams: number
  readonly cost: number | undefined
}

const joulesPerKwh = 3.6e6
const msPerHour = 3.6e6

export function footprint(
  { deviceMs, joules }: { readonly deviceMs: number; readonly joules: number },
  { gramsPerKwh, costPerDeviceHour }: Rates,
): Footprint {
  const deviceHours = deviceMs / msPerHour
  const kwh = joules / joulesPerKwh
  return {
    deviceHours,
    kwh,
    co2Grams: kwh * gramsPerKwh,
    cost: costPerDeviceHour === undefined ? undefined : deviceHours * costPerDeviceHour,
  }
}

/** @returns the best meter that this machine has; `gpus` are indices of CUDA devices, none when the devices are CPUs */
export async function openEnergyMeter(
  { watts }: Pick<Rates, 'watts'>,
  gpus: readonly number[],
  raplFolder = '/sys/class/powercap',
): Promise<EnergyMeter> {
  const configured: EnergyMeter = {
    take: async (deviceMs) => ({ joules: (watts * deviceMs) / 1000, source: 'configured' }),
  }
  if (gpus.length > 0) {
    return (await readGpuWatts(gpus)) === undefined ? configured : gpuMeter(gpus, configured)
  }
  const domains = await raplDomains(raplFolder)
  return domains.length === 0 ? configured : raplMeter(domains, configured)
}

/** Packages, not their parts, which they contain: `intel-rapl:0` and not `intel-rapl:0:0`. */
async function raplDomains(folder: string): Promise<readonly RaplDomain[]> {
  const names = await readdir(folder).catch(() => [])
  const domains = names
    .filter((name) => /^intel-rapl:\d+$/.test(name))
    .map(async (name): Promise<RaplDomain | undefined> => {
      try {
        const rangeMicrojoules = await readNumber(join(folder, name, 'max_energy_range_uj'))
        const file = join(folder, name, 'energy_uj')
        await readNumber(file) // only root may read it where a kernel is careful
        return { file, rangeMicrojoules }
      } catch {
        return undefined // a meter that cannot be read is none
      }
    })
  return (await Promise.all(domains)).filter((domain) => domain !== undefined)
}

interface RaplDomain {
  readonly file: string
  /** Where the counter begins anew. */
  readonly rangeMicrojoules: number
}

async function readNumber(file: string): Promise<number> {
  const value = Number((await readFile(file, 'utf8')).trim())
  if (!Number.isFinite(value)) throw new TypeError(`${file}: expected a number`)
  return value
}

/** Counters are of whole packages: a job is counted its share of the time. */
function raplMeter(domains: readonly RaplDomain[], fallback: EnergyMeter): EnergyMeter {
  let last: { readonly atMs: number; readonly microjoules: readonly number[] } | undefined
  const read = async () => ({
    atMs: performance.now(),
    microjoules: await Promise.all(domains.map(({ file }) => readNumber(file))),
  })
  return {
    async take(deviceMs) {
      const before = last
      last = await read().catch(() => undefined)
      if (!before || !last) return fallback.take(deviceMs)
      const elapsedMs = last.atMs - before.atMs
      const spent = domains.map(({ rangeMicrojoules }, index) => {
        const difference = (last?.microjoules[index] ?? 0) - (before.microjoules[index] ?? 0)
        return difference < 0 ? difference + rangeMicrojoules : difference
      })
      const joules = spent.reduce((sum, microjoules) => sum + microjoules, 0) / 1e6
      const share = elapsedMs > 0 ? Math.min(1, deviceMs / elapsedMs) : 0
      return { joules: joules * share, source: 'rapl' }
    },
  }
}

/** A process for each reading: not more often than this. */
const gpuReadingEveryMs = 10_000

function gpuMeter(gpus: readonly number[], fallback: EnergyMeter): EnergyMeter {
  let reading: { readonly atMs: number; readonly watts: number } | undefined
  return {
    async take(deviceMs) {
      if (!reading || performance.now() - reading.atMs > gpuReadingEveryMs) {
        const watts = await readGpuWatts(gpus)
        if (watts === undefined) return fallback.take(deviceMs)
        reading = { atMs: performance.now(), watts }
      }
      return { joules: (reading.watts * deviceMs) / 1000, source: 'nvidia-smi' }
    },
  }
}

/** @returns the mean power of one of them; undefined where that cannot be read */
async function readGpuWatts(gpus: readonly number[]): Promise<number | undefined> {
  const query = ['--query-gpu=power.draw', '--format=csv,noheader,nounits', `--id=${gpus.join(',')}`]
  try {
    const { stdout } = await promisify(execFile)('nvidia-smi', query, { timeout: 5_000 })
    const watts = stdout.trim().split('\n').map(Number)
    return watts.every(Number.isFinite)
      ? watts.reduce((sum, each) => sum + each, 0) / watts.length
      : undefined
  } catch {
    return undefined // no such program, or it has no such device
  }
}
