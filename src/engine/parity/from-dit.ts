/** Re-parameterisation against dit/golden.safetensors: a PixArt-α made from the DiT computes what that does at t = 500 without a class. */
import { TorchGenerator } from '../../diffusion/noise.ts'
import { readDitConfig } from '../../models/dit.ts'
import { parameterShapes } from '../../models/parameters.ts'
import { pixart, readPixArtConfig } from '../../models/pixart.ts'
import { fromDit } from '../../training/from-dit.ts'
import type { Component } from '../../weights/checkpoint.ts'
import { float32, type SessionOptions } from '../session.ts'
import { absoluteBound, differs } from './bounds.ts'
import { whole } from './gradients.ts'
import { LatentBatch } from './latent-batch.ts'
import type { References } from './references.ts'
import { openTrainingRuns, outputOf, readWeights } from './trained-weights.ts'

const sameBound = absoluteBound(1e-4)
/** A hundred times what may differ where they agree. */
const otherBound = differs(1e-2)

/** @param transformer of the golden checkpoint: a PixArt-α of the DiT's width and depth, whose text and sizes the new one takes */
export async function compareFromDit(
  run: References,
  { dit, transformer }: { readonly dit: Component; readonly transformer: Component },
  options: SessionOptions,
): Promise<void> {
  const ditConfig = readDitConfig(dit.config)
  const { captionWidth, microConditioned } = readPixArtConfig(transformer.config)
  const config = { ...ditConfig, captionWidth, microConditioned }
  const graph = pixart(config, 'train')
  const shapes = parameterShapes(graph)
  const normal = normals()
  const weights = fromDit({ config: ditConfig, dit: await readWeights(dit), shapes, random: normal })

  const latents = new LatentBatch(config, run.shape('latents'))
  const { rows } = latents
  const every = (value: number, ...dims: readonly number[]) =>
    float32(new Float32Array(dims.reduce((a, b) => a * b, rows)).fill(value), rows, ...dims)
  const textTokens = 8
  const feeds = {
    tokens: latents.tokens((await whole(run, 'latents')).data),
    coords: latents.coords(),
    // Of no consequence while cross-attention adds nothing.
    text: float32(
      Float32Array.from({ length: rows * textTokens * captionWidth }, normal),
      rows,
      textTokens,
      captionWidth,
    ),
    mask: every(1, textTokens),
    ...(microConditioned ? { resolution: every(256, 2), aspect_ratio: every(1, 1) } : {}),
  }
  const training = await openTrainingRuns(graph, options)
  const at = async (timestep: number) => {
    const outputs = await training.run(weights, { ...feeds, timestep: every(timestep) })
    return latents.pictures(outputOf(outputs, 'output'))
  }
  const at500 = await at(500)
  const at20 = await at(20)
  await training.close()
  await run.compare('output.no_class.t500', at500, sameBound)
  await run.compare('output.no_class.t20', at20, otherBound)
  await run.compare('output.class7.t500', at500, otherBound)
}

function normals(): () => number {
  const generator = new TorchGenerator(0)
  const block = new Float32Array(4096)
  let next = block.length
  return () => {
    if (next === block.length) {
      generator.fillNormal(block, {})
      next = 0
    }
    return block[next++]!
  }
}
