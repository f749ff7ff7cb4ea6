/** Transformers of PixArt-XL/2's kind in other sizes. */
import type { ConfigFields } from '../src/models/config-reader.ts'
import { preset } from '../src/models/presets.ts'

export interface TransformerSize {
  readonly heads: number
  readonly headWidth: number
  readonly blocks: number
  readonly captionWidth: number
  /** Side of the latents; 64 when left out. */
  readonly sampleSize?: number
}

/** What its config.json holds: all but the size is that of the published checkpoint. */
export const transformerConfig = ({
  heads,
  headWidth,
  blocks,
  captionWidth,
  sampleSize = 64,
}: TransformerSize): ConfigFields => ({
  ...preset('pixart-xl-2-512', { depth: blocks }).transformer,
  num_attention_heads: heads,
  attention_head_dim: headWidth,
  cross_attention_dim: heads * headWidth,
  caption_channels: captionWidth,
  sample_size: sampleSize,
})
