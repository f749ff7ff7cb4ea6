/** The energy counters of CPU packages (Linux powercap, Intel's and AMD's RAPL). */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

export const powercapFolder = '/sys/class/powercap'

export interface RaplDomain {
  readonly file: string
  /** Where the counter begins anew. */
  readonly rangeMicrojoules: number
}

/** Packages that can be read, not their parts, which they contain: `intel-rapl:0` and not `intel-rapl:0:0`. */
export async function raplDomains(folder: string): Promise<readonly RaplDomain[]> {
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

export interface RaplReading {
  readonly atMs: number
  /** One of each domain. */
  readonly microjoules: readonly number[]
}

export async function readRapl(domains: readonly RaplDomain[]): Promise<RaplReading> {
  const microjoules = await Promise.all(domains.map(({ file }) => readNumber(file)))
  return { atMs: performance.now(), microjoules }
}

/** @returns joules of all domains between two readings, over at most one turn-around of each counter */
export function joulesBetween(
  domains: readonly RaplDomain[],
  before: RaplReading,
  after: RaplReading,
): number {
  const spent = domains.map(({ rangeMicrojoules }, index) => {
    const difference = after.microjoules[index]! - before.microjoules[index]!
    return difference < 0 ? difference + rangeMicrojoules : difference
  })
  return spent.reduce((sum, microjoules) => sum + microjoules, 0) / 1e6
}

async function readNumber(file: string): Promise<number> {
  const value = Number((await readFile(file, 'utf8')).trim())
  if (!Number.isFinite(value)) throw new TypeError(`${file}: expected a number`)
  return value
}
