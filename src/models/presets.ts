/** The configurations of the published PixArt-α checkpoints, field by field as their config.json files have them. */
import type { ConfigFields } from './config-reader.ts'

export const presetNames = ['pixart-xl-2-256x256', 'pixart-xl-2-512', 'pixart-xl-2-1024-ms'] as const
export type PresetName = (typeof presetNames)[number]

export interface Preset {
  readonly transformer: ConfigFields
  readonly textEncoder: ConfigFields
  readonly vae: ConfigFields
}

export interface PresetOptions {
  /** Blocks of the transformer; as many as the published one when left out. */
  readonly depth?: number | undefined
  /** Layers of the text encoder. */
  readonly textDepth?: number | undefined
}

/** A published checkpoint's configurations, or those of a shallower model of the same width. */
export function preset(name: PresetName, { depth = 28, textDepth = 24 }: PresetOptions = {}): Preset {
  return {
    transformer: { ...pixartXl2, sample_size: sampleSizes[name], num_layers: depth },
    textEncoder: { ...t5V11Xxl, num_layers: textDepth, num_decoder_layers: textDepth },
    vae: sdKlF8,
  }
}

/** Side of the latents. From 128 on the transformer is conditioned on resolution and aspect ratio as well. */
const sampleSizes: Readonly<Record<PresetName, number>> = {
  'pixart-xl-2-256x256': 32,
  'pixart-xl-2-512': 64,
  'pixart-xl-2-1024-ms': 128,
}

const pixartXl2 = {
  _class_name: 'Transformer2DModel',
  _diffusers_version: '0.22.0.dev0',
  activation_fn: 'gelu-approximate',
  attention_bias: true,
  attention_head_dim: 72,
  attention_type: 'default',
  caption_channels: 4096,
  cross_attention_dim: 1152,
  double_self_attention: false,
  dropout: 0.0,
  in_channels: 4,
  norm_elementwise_affine: false,
  norm_eps: 1e-6,
  norm_num_groups: 32,
  norm_type: 'ada_norm_single',
  num_attention_heads: 16,
  num_embeds_ada_norm: 1000,
  num_vector_embeds: null,
  only_cross_attention: false,
  out_channels: 8,
  patch_size: 2,
  upcast_attention: false,
  use_linear_projection: false,
} satisfies ConfigFields

const t5V11Xxl = {
  architectures: ['T5EncoderModel'],
  d_ff: 10240,
  d_kv: 64,
  d_model: 4096,
  decoder_start_token_id: 0,
  dense_act_fn: 'gelu_new',
  dropout_rate: 0.1,
  eos_token_id: 1,
  feed_forward_proj: 'gated-gelu',
  initializer_factor: 1.0,
  is_encoder_decoder: true,
  is_gated_act: true,
  layer_norm_epsilon: 1e-6,
  model_type: 't5',
  num_heads: 64,
  output_past: true,
  pad_token_id: 0,
  relative_attention_max_distance: 128,
  relative_attention_num_buckets: 32,
  tie_word_embeddings: false,
  use_cache: true,
  vocab_size: 32128,
} satisfies ConfigFields

const sdKlF8 = {
  _class_name: 'AutoencoderKL',
  _diffusers_version: '0.22.0.dev0',
  act_fn: 'silu',
  block_out_channels: [128, 256, 512, 512],
  down_block_types: ['DownEncoderBlock2D', 'DownEncoderBlock2D', 'DownEncoderBlock2D', 'DownEncoderBlock2D'],
  force_upcast: true,
  in_channels: 3,
  latent_channels: 4,
  layers_per_block: 2,
  norm_num_groups: 32,
  out_channels: 3,
  sample_size: 256,
  scaling_factor: 0.18215,
  up_block_types: ['UpDecoderBlock2D', 'UpDecoderBlock2D', 'UpDecoderBlock2D', 'UpDecoderBlock2D'],
} satisfies ConfigFields
