/**
 * What the parts of the decoder take in memory, done whole and in strips: figures for plans, as measured on the CPU provider with
 * buffers that go back to the system. Weights are not in them.
 */
import { decoderLayers, type DecoderLayer, type VaeConfig } from './vae.ts'

export interface PartMemory {
  readonly inputBytes: number
  readonly outputBytes: number
  /** All that the part takes beside its input when it is done whole, its output included. */
  readonly wholeBytes: number
  /** The same in strips, to which the workspace of a strip is to be added; undefined for the first part, which is done whole. */
  readonly stripsBytes: number | undefined
}

/** Each part's memory for a batch of latents of that size. */
export function decoderMemory(
  config: VaeConfig,
  { batch, height, width }: { readonly batch: number; readonly height: number; readonly width: number },
): readonly PartMemory[] {
  let planeBytes = 4 * batch * height * width
  return decoderLayers(config).map((layers) => {
    const [first, last] = [layers[0], layers.at(-1)]
    if (first === undefined || last === undefined) throw new TypeError('a part of the decoder has layers')
    const doubles = layers.some(({ kind }) => kind === 'double')
    const enteringBytes = planeBytes
    if (doubles) planeBytes *= 4
    return {
      inputBytes: first.entering * enteringBytes,
      outputBytes: last.channels * planeBytes,
      wholeBytes: wholePlanes(layers) * planeBytes,
      stripsBytes: first.kind === 'entrance' ? undefined : stripPlanes(layers) * planeBytes,
    }
  })
}

/** Channels of the output's size that are there at once, at most. */
function wholePlanes(layers: readonly DecoderLayer[]): number {
  const residual = layers.filter(({ kind }) => kind === 'residual')
  return Math.max(
    ...layers.map(({ kind, entering, channels }) => {
      switch (kind) {
        // Queries, keys, values and what they are made of, beside the attention's own buffers.
        case 'entrance':
          return 8 * channels
        case 'residual':
          // From the second layer on there is a result of this part that waits to be added.
          return 2 * Math.max(entering, channels) + (residual.length > 1 ? channels : 0)
        case 'double':
          return 2 * channels
        case 'exit':
          return 2 * entering + channels
      }
    }),
  )
}

/** The results of all layers: garbage may stay for a while. Each residual layer writes both of its passes into one. */
const stripPlanes = (layers: readonly DecoderLayer[]): number =>
  layers.reduce((sum, { channels }) => sum + channels, 0)
