/** Samples as sheets: all prompts after one and the same step. */
import type { SchemaFineTuningSample } from '../../../sdk/index.ts'

export interface Sheet {
  /** Through all stages. */
  readonly step: number
  readonly samples: readonly SchemaFineTuningSample[]
}

/** @returns from the first to the last step */
export function sheetsOf(samples: readonly SchemaFineTuningSample[]): Sheet[] {
  return [...Map.groupBy(samples, ({ step }) => step)]
    .map(([step, of]) => ({ step, samples: of.toSorted((a, b) => a.index - b.index) }))
    .toSorted((a, b) => a.step - b.step)
}

/** The sheet that is nearest to what a checkpoint can draw: of its own step, else the last before it, else the first after. */
export function sheetOf(sheets: readonly Sheet[], step: number): Sheet | undefined {
  return sheets.findLast((sheet) => sheet.step <= step) ?? sheets[0]
}
