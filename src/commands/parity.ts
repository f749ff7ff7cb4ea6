/** `atelier parity DIR`: prints how far every stage is from its reference. */
import type { Config } from '../config.ts'
import { runParity } from '../engine/parity.ts'
import { deviceOptions } from './devices.ts'

/** @returns the exit status: 1 when a comparison fails or a reference was held against nothing */
export async function parity(
  config: Config,
  folder: string,
  { out }: { readonly out?: string },
): Promise<number> {
  const [device] = deviceOptions(config, [])
  if (!device) throw new Error('ATELIER_DEVICES: expected at least one device')
  const onNote = (message: string) => console.log(`note: ${message}`)
  const { comparisons, uncompared } = await runParity(folder, device, { outFile: out, onNote })
  const width = Math.max(...comparisons.map(({ name }) => name.length))
  for (const { name, maxAbsolute, maxRelative, bound, isWithin } of comparisons) {
    const figures = `abs ${maxAbsolute.toExponential(2)}  rel ${maxRelative.toExponential(2)}`
    console.log(`${name.padEnd(width)}  ${figures}  bound ${bound}  ${isWithin ? 'ok' : 'FAIL'}`)
  }
  for (const name of uncompared) console.log(`${name.padEnd(width)}  held against nothing  FAIL`)
  const failed = comparisons.filter(({ isWithin }) => !isWithin).length + uncompared.length
  console.log(failed === 0 ? `all ${comparisons.length} within their bounds` : `${failed} FAILED`)
  return failed === 0 ? 0 : 1
}
