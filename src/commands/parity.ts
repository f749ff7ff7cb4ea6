/** `atelier parity DIR`: prints how far every stage is from its reference. */
import type { Config } from '../config.ts'
import { runParity, type Comparison, type ParityReport } from '../engine/parity.ts'
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
  const report = await runParity(folder, device, { outFile: out, onNote })
  for (const line of parityLines(report)) console.log(line)
  return failures(report) === 0 ? 0 : 1
}

const failures = ({ comparisons, uncompared }: ParityReport): number =>
  comparisons.filter(({ isWithin }) => !isWithin).length + uncompared.length

/** A line for every tensor that is read by itself or is off, one for the rest of every group, and the verdict. */
export function parityLines(report: ParityReport): readonly string[] {
  const { comparisons, uncompared } = report
  const lines = summarised(comparisons)
  const width = Math.max(...[...lines.map(({ name }) => name), ...uncompared].map(({ length }) => length))
  const failed = failures(report)
  return [
    ...lines.map(({ name, maxAbsolute, maxRelative, bound, isWithin, of }) => {
      const figures = `abs ${maxAbsolute.toExponential(2)}  rel ${maxRelative.toExponential(2)}`
      const verdict = `bound ${bound}  ${isWithin ? 'ok' : 'FAIL'}`
      return `${name.padEnd(width)}  ${figures}  ${verdict}${of === undefined ? '' : `  ${of}`}`
    }),
    ...uncompared.map((name) => `${name.padEnd(width)}  held against nothing  FAIL`),
    failed === 0 ? `all ${comparisons.length} within their bounds` : `${failed} FAILED`,
  ]
}

interface Line extends Comparison {
  /** What the line stands for, when that is more than one tensor. */
  readonly of?: string
}

function summarised(comparisons: readonly Comparison[]): readonly Line[] {
  const groups = Map.groupBy(comparisons, ({ group, name }) => group ?? name)
  return [...groups].flatMap(([name, members]): readonly Line[] => {
    const within = members.filter(({ isWithin }) => isWithin)
    if (members.length === 1 || within.length === 0) return members
    const worst = within.reduce((a, b) => (b.strain > a.strain ? b : a))
    const of = `worst of ${within.length}: ${worst.name}`
    return [{ ...worst, name, of }, ...members.filter(({ isWithin }) => !isWithin)]
  })
}
