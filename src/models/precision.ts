/** The models' graphs in float32, or in float16 with what must stay float32 kept so. */
import type { Graph } from '../graph/ir.ts'
import { inMixedPrecision, type MixedPrecisionOptions } from '../graph/mixed-precision.ts'

export const precisions = ['float32', 'float16'] as const
export type Precision = (typeof precisions)[number]

/**
 * Layers whose products stay in float32: what T5's feed-forward layers give is beyond 65504 (transformers keeps the same one),
 * and the modulation scales and shifts every token of every block.
 */
const sensitive = [/\.DenseReluDense\.wo\./, /^adaln_single\./]

/** Inputs and outputs are float32 either way. */
export function atPrecision(graph: Graph, precision: Precision, options: MixedPrecisionOptions = {}): Graph {
  if (precision === 'float32') return graph
  return inMixedPrecision(graph, (key) => sensitive.some((pattern) => pattern.test(key)), options)
}
