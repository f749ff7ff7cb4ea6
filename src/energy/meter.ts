/** What a job's device time takes, told now and then: from the machine's own meters where they can be read, else from a configured power. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { EnergyUse, Rates } from './footprint.ts'
import {
  joulesBetween,
  powercapFolder,
  raplDomains,
  readRapl,
  type RaplDomain,
  type RaplReading,
} from './rapl.ts'

/** Tells what device time took, called now and then while there is some. */
export interface EnergyMeter {
  /** @param deviceMs of the job since the last call, which may have been in parallel on several devices */
  take(deviceMs: number): Promise<EnergyUse>
}

/** @returns the best meter that this machine has; `gpus` are indices of CUDA devices, none when the devices are CPUs */
export async function openEnergyMeter(
  { watts }: Pick<Rates, 'watts'>,
  gpus: readonly number[],
  raplFolder = powercapFolder,
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

/** Counters are of whole packages: a job is counted its share of the time. */
function raplMeter(domains: readonly RaplDomain[], fallback: EnergyMeter): EnergyMeter {
  let last: RaplReading | undefined
  return {
    async take(deviceMs) {
      const before = last
      last = await readRapl(domains).catch(() => undefined)
      if (!before || !last) return fallback.take(deviceMs)
      const elapsedMs = last.atMs - before.atMs
      const share = elapsedMs > 0 ? Math.min(1, deviceMs / elapsedMs) : 0
      return { joules: joulesBetween(domains, before, last) * share, source: 'rapl' }
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
