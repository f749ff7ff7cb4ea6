/** What the default model is made of, field by field as its config.json files have it, and its state before anything is learned. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { writeSyntheticCheckpoint } from '../../src/models/synthetic-checkpoint.ts'
import { makePieces, writeTokenizer } from './tokenizer.ts'

/** Side of the square bucket in pixels: 16 tokens, so that hours on two cores show it three times the pictures that 128 px would. */
export const baseSize = 64
/** Of what it is trained on, which is reduced to its buckets. */
export const pictureSize = 128
const latentScale = 8
const latentChannels = 8
const vocabularySize = 4096
const captionWidth = 192
const [heads, headWidth, blocks] = [6, 40, 7]

/** 6.9 million parameters. */
const transformer = {
  activation_fn: 'gelu-approximate',
  attention_bias: true,
  attention_head_dim: headWidth,
  caption_channels: captionWidth,
  cross_attention_dim: heads * headWidth,
  in_channels: latentChannels,
  norm_elementwise_affine: false,
  norm_eps: 1e-6,
  norm_type: 'ada_norm_single',
  num_attention_heads: heads,
  num_layers: blocks,
  out_channels: 2 * latentChannels,
  patch_size: 2,
  sample_size: baseSize / latentScale,
  use_additional_conditions: true,
}

const textEncoder = {
  d_ff: 512,
  d_kv: 32,
  d_model: captionWidth,
  feed_forward_proj: 'gated-gelu',
  layer_norm_epsilon: 1e-6,
  num_heads: 6,
  num_layers: 3,
  relative_attention_max_distance: 128,
  relative_attention_num_buckets: 32,
  vocab_size: vocabularySize,
}

/** Of the noise a small model learns little of what a text says: at high noise levels the picture hardly counts in its error. */
const scheduler = { prediction_type: 'v_prediction' }

const levels = [16, 16, 48, 96]

/** Few channels where there are many pixels: most of the cost is there. */
const vae = {
  act_fn: 'silu',
  block_out_channels: levels,
  down_block_types: levels.map(() => 'DownEncoderBlock2D'),
  in_channels: 3,
  latent_channels: latentChannels,
  layers_per_block: 1,
  norm_num_groups: 8,
  out_channels: 3,
  sample_size: baseSize,
  up_block_types: levels.map(() => 'UpDecoderBlock2D'),
}

/**
 * Random weights, and a tokenizer of the words of the captions.
 * @param folder made; it must not be there, or be empty
 */
export async function writeInitialModel(
  folder: string,
  { captions, seed }: { readonly captions: Iterable<string>; readonly seed: number },
): Promise<void> {
  const tokenizer = await mkdtemp(join(tmpdir(), 'atelier-tokenizer-'))
  try {
    await writeTokenizer(tokenizer, makePieces(captions, vocabularySize))
    await writeSyntheticCheckpoint(folder, { seed, tokenizer, transformer, textEncoder, vae, scheduler })
  } finally {
    await rm(tokenizer, { recursive: true })
  }
}
