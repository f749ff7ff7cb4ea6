/** The model that serving is measured with: as little work a call as leaves the proportions of a real one. */
import { fileURLToPath } from 'node:url'
import type { SyntheticCheckpoint } from '../../src/models/synthetic-checkpoint.ts'
import { transformerConfig } from '../transformer-config.ts'

/**
 * Narrow and deep, since on a CPU it is what a call costs beyond its rows that makes batching pay: reading the weights of a
 * real model, starting the many small operators of this one.
 * @param baseSize side of the square bucket in pixels
 */
export function servingCheckpoint(baseSize: number, blocks: number): SyntheticCheckpoint {
  const captionWidth = 64
  return {
    transformer: transformerConfig({
      heads: 1,
      headWidth: 12,
      blocks,
      captionWidth,
      sampleSize: baseSize / 8,
    }),
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
