/** Which of a model's matrices may be stored in fewer bits, how a checkpoint says so, and what the graphs need to know of it. */
import type { WeightFormat, WeightStorage } from '../graph/scope.ts'
import type { Component } from '../weights/checkpoint.ts'
import { matrixKey, type BlockFormat } from '../weights/quantisation.ts'
import { ConfigReader, type ConfigFields } from './config-reader.ts'
import type { LoweringName } from './lowering.ts'
import { t5Aliases } from './t5.ts'

export const quantisableComponents = ['text_encoder', 'transformer'] as const
export type QuantisableComponent = (typeof quantisableComponents)[number]

/** Block sizes that every provider's kernel takes. */
export const blockSizes: readonly number[] = [16, 32, 64, 128, 256]

/**
 * All linear layers of T5, and those in the blocks of the transformer, which hold 97 % of its weights. The rest saves little and
 * costs much: with the caption projection in 4 bits, which all that is known of the text passes through, the golden checkpoints'
 * final latents err by 0.157 and 0.125 instead of 0.083 and 0.094.
 */
const linears: Readonly<Record<QuantisableComponent, RegExp>> = {
  text_encoder: /^encoder\.block\.\d+\.layer\.\d+\.(?:SelfAttention\.[qkvo]|DenseReluDense\.(?:wi_[01]|wo))\.weight$/,
  transformer:
    /^transformer_blocks\.\d+\.(?:attn[12]\.(?:to_[qkv]|to_out\.0)|ff\.net\.(?:0\.proj|2))\.weight$/,
}

/** The embedding by each of the keys that it may lie under; the graph asks for the first. */
const embeddingKeys: readonly string[] = [...t5Aliases].flatMap(([key, aliases]) => [key, ...aliases])

/** How a quantised component stores this tensor; undefined for in full, that is as float32. */
export function formatFor(component: QuantisableComponent, key: string, blocks: BlockFormat): WeightFormat | undefined {
  if (linears[component].test(key)) return { kind: 'blocks', ...blocks }
  if (component === 'text_encoder' && embeddingKeys.includes(key)) return { kind: 'float16' }
  return undefined
}

/** Without those that say again what another key says: the embedding may be saved under two. */
export function distinctKeys(component: QuantisableComponent, keys: Iterable<string>): readonly string[] {
  const all = [...keys]
  const [embedding] = component === 'text_encoder' ? embeddingKeys.filter((key) => all.includes(key)) : []
  return embedding === undefined ? all : all.filter((key) => key === embedding || !embeddingKeys.includes(key))
}

const method = 'matmul_nbits'

/** What config.json of a quantised component says, by the names that transformers and diffusers use. */
export const quantizationConfig = ({ bits, blockSize }: BlockFormat): ConfigFields => ({
  quant_method: method,
  bits,
  group_size: blockSize,
  zero_point: true,
})

/**
 * @param component for the error
 * @throws {ModelConfigError} when the component is quantised in a way that is not covered
 */
export function quantisationOf(component: string, config: ConfigFields): BlockFormat | undefined {
  const fields = config['quantization_config']
  if (fields === undefined || fields === null) return undefined
  new ConfigReader(component, config).demand('quantization_config', 'an object', isFields)
  const reader = new ConfigReader(`${component} quantization`, fields as ConfigFields)
  reader.require('quant_method', method)
  reader.demand('bits', '4 or 8', (bits) => bits === 4 || bits === 8)
  reader.demand('group_size', `one of ${blockSizes.join(', ')}`, (size) => blockSizes.some((known) => known === size))
  reader.require('zero_point', true)
  return { bits: reader.integer('bits') === 4 ? 4 : 8, blockSize: reader.integer('group_size') }
}

const isFields = (value: unknown): value is ConfigFields => typeof value === 'object' && value !== null && !Array.isArray(value)

/**
 * With 4 bits a kernel in float32 takes as long as a float32 product. With 8 it spends more on widening the weights: four times
 * as long as a float32 product at 120 rows, but 1.2 times at 2048. One that rounds its input takes 1.4 times either way and errs
 * by 5e-3 of the result, so only the text encoder has it.
 */
const activationsOf = (component: string, { bits }: BlockFormat): 'float32' | 'int8' =>
  bits === 8 && component === 'text_encoder' ? 'int8' : 'float32'

/** How the matrices of a component lie there, for its graphs in that lowering: any part of a quantised one tells of all of them. */
export function weightStorage(
  { name, config, tensors }: Pick<Component, 'name' | 'config' | 'tensors'>,
  lowering: LoweringName,
): WeightStorage {
  const kernels = lowering === 'serve' ? 'fused' : 'elementary'
  const blocks = quantisationOf(name, config)
  const formats = new Map<string, WeightFormat>()
  if (blocks === undefined) return { formats, kernels }
  const activations = activationsOf(name, blocks)
  for (const [key, { dtype }] of tensors) {
    const matrix = matrixKey(key, dtype)
    if (matrix !== undefined) formats.set(matrix, { kind: 'blocks', ...blocks, activations })
  }
  const [embedding = ''] = embeddingKeys
  if (embeddingKeys.some((key) => tensors.get(key)?.dtype === 'F16')) formats.set(embedding, { kind: 'float16' })
  return { formats, kernels }
}
