/** The model that serving is measured with: as little work a call as leaves the proportions of a real one. */
import { fileURLToPath } from 'node:url'
import type { SyntheticCheckpoint } from '../../src/models/synthetic-checkpoint.ts'

/**
 * Narrow and deep, since on a CPU it is what a call costs beyond its rows that makes batching pay: reading the weights of a
 * real model, starting the many small operators of this one.
 * @param baseSize side of the square bucket in pixels
 */
export function servingCheckpoint(baseSize: number, blocks: number): SyntheticCheckpoint {
  const [heads, headWidth, captionWidth] = [1, 12, 64]
  return {
    transformer: {
      num_attention_heads: heads,
      attention_head_dim: headWidth,
      cross_attention_dim: heads * headWidth,
      num_layers: blocks,
      caption_channels: captionWidth,
      in_channels: 4,
      out_channels: 8,
      patch_size: 2,
      sample_size: baseSize / 8,
      attention_bias: true,
      activation_fn: 'gelu-approximate',
      norm_type: 'ada_norm_single',
      norm_elementwise_affine: false,
      norm_eps: 1e-6,
    },
    textEncoder: {
      vocab_size: 2000,
      d_model: captionWidth,
      d_kv: 16,
      d_ff: 128,
      num_layers: 2,
      num_heads: 4,
      feed_forward_proj: 'gated-gelu',
    },
    vae: {
      block_out_channels: [2, 2, 2, 2],
      layers_per_block: 1,
      norm_num_groups: 2,
      act_fn: 'silu',
      scaling_factor: 0.18215,
    },
    tokenizer: fileURLToPath(
      new URL('../../test/fixtures/golden/tiny-512/checkpoint/tokenizer', import.meta.url),
    ),
    seed: 1,
  }
}
