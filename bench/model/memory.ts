/** What this process has in memory, as Linux tells it (proc(5), /proc/pid/status). */
import { readFileSync, writeFileSync } from 'node:fs'

export interface Memory {
  /** Nobody else's: heaps, buffers, prepacked weights. */
  readonly privateBytes: number
  /** Pages of mapped files, which processes share and the system may drop. */
  readonly fileBytes: number
}

export const readMemory = (): Memory => ({ privateBytes: status('RssAnon'), fileBytes: status('RssFile') })

/** The most that was resident since `forgetPeak`. */
export const readPeakBytes = (): number => status('VmHWM')

export const forgetPeak = (): void => writeFileSync('/proc/self/clear_refs', '5')

function status(field: string): number {
  const kibibytes = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(
    readFileSync('/proc/self/status', 'utf8'),
  )?.[1]
  if (kibibytes === undefined) throw new Error(`/proc/self/status: expected ${field}, which Linux has`)
  return Number(kibibytes) * 1024
}
