/** One gradient rule an operator; operators whose results are integers or conditions need none. */
import type { OperatorName } from '../shapes.ts'
import { arrangement } from './arrangement.ts'
import type { Rule } from './call.ts'
import { elementwise } from './elementwise.ts'
import { normalisation } from './normalisation.ts'
import { products } from './products.ts'

export const rules: Readonly<Partial<Record<OperatorName, Rule>>> = {
  ...arrangement,
  ...elementwise,
  ...normalisation,
  ...products,
} satisfies Partial<Record<OperatorName, Rule>>
