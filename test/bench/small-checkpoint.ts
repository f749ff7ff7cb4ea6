/** The smallest configurations that exercise every part of the three models. */
import { fileURLToPath } from 'node:url'
import type { SyntheticCheckpoint } from '../../src/models/synthetic-checkpoint.ts'

export const smallCheckpoint: SyntheticCheckpoint = {
  transformer: {
    num_attention_heads: 2,
    attention_head_dim: 12,
    cross_attention_dim: 24,
    num_layers: 2,
    caption_channels: 32,
    in_channels: 4,
    out_channels: 8,
    patch_size: 2,
    sample_size: 32,
    attention_bias: true,
    activation_fn: 'gelu-approximate',
    norm_type: 'ada_norm_single',
    norm_elementwise_affine: false,
    norm_eps: 1e-6,
    use_additional_conditions: true,
  },
  textEncoder: {
    vocab_size: 2000,
    d_model: 32,
    d_kv: 8,
    d_ff: 48,
    num_layers: 2,
    num_heads: 4,
    feed_forward_proj: 'gated-gelu',
  },
  vae: {
    block_out_channels: [4, 8, 8, 8],
    layers_per_block: 1,
    norm_num_groups: 2,
    act_fn: 'silu',
  },
  tokenizer: fileURLToPath(new URL('../fixtures/golden/tiny-512/checkpoint/tokenizer', import.meta.url)),
  seed: 7,
}
