/**
 * What a model's work takes in a device's memory on the CPU provider, by formulas whose factors were measured on the models of
 * published size (VmHWM of /proc/self/status, Linux, ONNX Runtime 1.30).
 */
import { totalmem } from 'node:os'
import { bucketsFor } from '../diffusion/buckets.ts'
import type { Graph, Node, Parameter } from '../graph/ir.ts'
import type { DataType } from '../graph/data-type.ts'
import type { PixArtConfig } from '../models/pixart.ts'
import type { T5Config } from '../models/t5.ts'
import { decoderMemory, type PartMemory } from '../models/vae-memory.ts'
import { vaeDownsampling, type VaeConfig } from '../models/vae.ts'
import { maxPromptTokens, servedBytes, type ServedWeights } from '../models/components.ts'
import type { MemoryInput } from './memory-plan.ts'

export interface WeightMemory {
  /** Copies in the order that the kernels want, in private memory; what was mapped for them is let go. */
  readonly privateBytes: number
  /** Read where it lies, through the page cache, as embeddings are: a row at a time. */
  readonly mappedBytes: number
}

/** Packed weights are as large as they were. Convolutions leave gaps: 265 MiB for the 188 MiB of a decoder. */
const packedCopies: Readonly<Partial<Record<Node['operator'], number>>> = {
  Gemm: 1,
  MatMul: 1,
  'com.microsoft.MatMulNBits': 1,
  Conv: 1.4,
}

/**
 * Applied to a weight they are folded into other weights; slices are those that make four kernels of 2 × 2 of a doubling's 3 × 3.
 */
const folded: Readonly<Partial<Record<Node['operator'], number>>> = {
  Reshape: 1,
  Transpose: 1,
  Cast: 1,
  Slice: (1.4 * 16) / 9,
}

const elementBytes: Readonly<Partial<Record<DataType, number>>> = {
  float32: 4,
  float16: 2,
  int32: 4,
  uint8: 1,
}

/** Of the sessions over these graphs, once they are loaded. */
export function weightMemory(graphs: readonly Graph[], weights: ServedWeights): WeightMemory {
  let [privateBytes, mappedBytes] = [0, 0]
  for (const graph of graphs) {
    const readers = readersOf(graph)
    for (const parameter of graph.parameters) {
      const location = weights.tensors.get(parameter.name)
      const reader = readers.get(parameter)
      if (!location || !reader) continue
      const sizeBytes = servedBytes(weights, parameter.name, location)
      const copies = packedCopies[reader.operator] ?? foldedCopies(parameter, reader)
      if (copies === undefined) mappedBytes += sizeBytes
      else privateBytes += copies * sizeBytes
    }
  }
  return { privateBytes, mappedBytes }
}

function foldedCopies({ dtype }: Parameter, { operator, outputs }: Node): number | undefined {
  const copies = folded[operator]
  const [result] = outputs
  if (copies === undefined || result === undefined) return undefined
  return (copies * (elementBytes[result.dtype] ?? 4)) / (elementBytes[dtype] ?? 4)
}

/** The first of those that read it. */
function readersOf({ nodes }: Graph): ReadonlyMap<Parameter, Node> {
  const readers = new Map<Parameter, Node>()
  for (const node of nodes) {
    for (const input of node.inputs) {
      if (input?.kind === 'parameter' && !readers.has(input)) readers.set(input, node)
    }
  }
  return readers
}

/** Of one call that encodes `rows` prompts of T tokens: feed-forward and states, and the scores of attention. */
export function encodeBytes({ width, feedForwardWidth, heads }: T5Config, rows: number, T: number): number {
  return 4 * rows * (T * (4 * feedForwardWidth + 6 * width) + 3 * heads * T ** 2)
}

/** Of one call for rows · tokens of the transformer: states, q, k, v and feed-forward, in widths; and what any call takes. */
export const denoiseBytes = ({ heads, headWidth }: PixArtConfig, rowTokens: number): number =>
  rowTokens * denoiseBytesPerRowToken({ heads, headWidth }) + callBytes

export const denoiseBytesPerRowToken = ({
  heads,
  headWidth,
}: Pick<PixArtConfig, 'heads' | 'headWidth'>): number => 4 * 20 * heads * headWidth

export const callBytes = 64 * 2 ** 20

/** Of one row's text of T tokens: the keys and values of each layer's cross-attention, copied into the batch. */
export const rowContextBytes = ({ layers, heads, headWidth }: PixArtConfig, T: number): number =>
  4 * 2 * layers * T * heads * headWidth

export interface DecodeMemory {
  /** Per pixel of the picture, for whole layers: input, output and what the library holds between them. */
  readonly wholeBytesPerPixel: number
  /** The same in strips, but for the strip's own: input, output, and the input that is added to the output. */
  readonly tiledBytesPerPixel: number
}

/** Results of the parts before are not collected at once: a decode at 512² took 1184 MiB, and its largest part alone 768. */
const uncollected = 1.6

/** The part that takes most, its input included. */
export function decodeMemory(config: VaeConfig): DecodeMemory {
  // All figures are in proportion to the picture: those of one latent pixel tell those of any size.
  const pixels = vaeDownsampling(config) ** 2
  const parts = decoderMemory(config, { batch: 1, height: 1, width: 1 })
  const most = (bytes: (part: PartMemory) => number): number =>
    Math.max(...parts.map((part) => part.inputBytes + bytes(part))) / pixels
  return {
    wholeBytesPerPixel: uncollected * most(({ wholeBytes }) => wholeBytes),
    tiledBytesPerPixel: most(({ wholeBytes, stripsBytes }) => stripsBytes ?? wholeBytes),
  }
}

/** Of a device's process with the library in it and the smallest of models. */
export const processBytes = 230 * 2 ** 20

/** What text embeddings may take that are kept for the prompts to come, all models together. */
export const promptCacheBytes = 256 * 2 ** 20

/** What keys and values of the texts at work may take, all models together: eight rows of a model of PixArt-XL's size. */
export const contextCacheBytes = 256 * 2 ** 20

/** Of a device's process before any model is loaded, with what it remembers of texts. */
export const baseBytes = processBytes + promptCacheBytes + contextCacheBytes

/** What a process can have: its control group's limit, or the machine's memory. */
export function machineBytes(): number {
  const constrained = process.constrainedMemory()
  return constrained > 0 ? Math.min(constrained, totalmem()) : totalmem()
}

/** A model of a checkpoint, as its graphs and headers tell of it. */
interface Known<Config> {
  readonly config: Config
  readonly graphs: readonly Graph[]
  readonly weights: ServedWeights
}

/** @param limitBytes what the device's process may take; undefined: what there is */
export function memoryInput(
  {
    text,
    transformer,
    vae,
  }: {
    readonly text: Known<T5Config>
    readonly transformer: Known<PixArtConfig>
    readonly vae: Known<VaeConfig>
  },
  limitBytes: number | undefined,
): MemoryInput {
  const latentScale = vaeDownsampling(vae.config)
  const buckets = bucketsFor(transformer.config.sampleSize * latentScale)
  const areas = buckets.map(({ width, height }) => width * height)
  const [minPixels, maxPixels] = [Math.min(...areas), Math.max(...areas)]
  const pixelsPerToken = (latentScale * transformer.config.patchSize) ** 2
  const contextBytes = rowContextBytes(transformer.config, maxPromptTokens)
  const privateBytes = ({ graphs, weights }: Known<unknown>) => weightMemory(graphs, weights).privateBytes
  return {
    weightBytes: {
      textEncoder: privateBytes(text),
      transformer: privateBytes(transformer),
      decoder: privateBytes(vae),
    },
    encodeBytes: encodeBytes(text.config, 2, maxPromptTokens),
    decode: decodeMemory(vae.config),
    denoise: {
      bytesPerRowToken:
        denoiseBytesPerRowToken(transformer.config) + contextBytes / (minPixels / pixelsPerToken),
      callBytes,
    },
    maxPixels,
    maxTokens: maxPixels / pixelsPerToken,
    baseBytes,
    limitBytes,
    machineBytes: machineBytes(),
  }
}
