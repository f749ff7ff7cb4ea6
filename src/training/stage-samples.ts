/** Pictures of a job's prompts from a stage's averaged weights. */
import { maxPromptTokens } from '../models/components.ts'
import { parameterShapes } from '../models/parameters.ts'
import { readT5Config, t5Encoder } from '../models/t5.ts'
import { openVae } from '../models/components.ts'
import { tensorsFor } from '../weights/cast.ts'
import type { Tensor, TrainingHost } from './host.ts'
import type { Denoiser, TextConditions } from './sample-latents.ts'
import { writeSamples } from './sampling.ts'
import type { StageInputs } from './stage-inputs.ts'
import type { Tensors } from './tensors.ts'
import type { Units } from './units.ts'

/** None in a stage that paints nothing by prompts. */
export async function* sampleStage(
  inputs: StageInputs,
  host: TrainingHost,
  average: Tensors,
  step: number,
): Units {
  const { job, index, stage, parts, scheduler, backbone } = inputs
  const denoiser = denoiserOf(inputs, host, average)
  if (!denoiser || job.samples.prompts.length === 0) return
  const vae = openVae(parts.components.vae, { lowering: host.lowering, precision: 'float32' })
  try {
    yield* writeSamples(
      host,
      { jobFolder: job.folder, stage: index, step },
      {
        plan: job.samples,
        denoiser,
        denoiserWeights: { trained: average, frozen: (graph) => backbone.frozen(graph) },
        vae: vae.config,
        vaeWeights: {
          trained: new Map(),
          frozen: () => tensorsFor(vae.weights, vae.weights.dtypes, job.cacheDir),
        },
        scheduler,
        size: { width: stage.resolution, height: stage.resolution },
      },
    )
  } finally {
    await inputs.encoders.close()
  }
}

function denoiserOf(inputs: StageInputs, host: TrainingHost, average: Tensors): Denoiser | undefined {
  const { paints } = inputs.backbone
  switch (paints?.kind) {
    case undefined:
      return undefined
    case 'class': {
      const isClass = inputs.job.samples.prompts.every(({ prompt }) => paints.classes.includes(prompt))
      return isClass ? paints : undefined
    }
    case 'text':
      return {
        ...paints,
        encode: (prompts) =>
          paints.textEncoder === 'trained'
            ? encodeTrained(inputs, host, average, prompts)
            : encodeFrozen(inputs, prompts),
      }
  }
}

interface Prompt {
  readonly ids: Tensor // (1, T)
  readonly mask: Tensor // (1, T)
}

function tokenise({ tokenizer }: StageInputs, prompt: string): Prompt {
  const { ids, mask } = tokenizer.encode(prompt, maxPromptTokens)
  const dims = [1, maxPromptTokens]
  return { ids: { dtype: 'int32', data: ids, dims }, mask: { dtype: 'float32', data: mask, dims } }
}

const conditionsOf = (hidden: Float32Array, { mask }: Prompt): TextConditions => ({
  hidden,
  mask: mask.data as Float32Array,
})

async function encodeFrozen(inputs: StageInputs, prompts: readonly string[]): Promise<TextConditions[]> {
  const encoded: TextConditions[] = []
  for (const prompt of prompts.map((one) => tokenise(inputs, one)))
    encoded.push(conditionsOf(await inputs.encoders.text(prompt.ids, prompt.mask), prompt))
  return encoded
}

/** By the text encoder's averaged weights. */
async function encodeTrained(
  inputs: StageInputs,
  host: TrainingHost,
  average: Tensors,
  prompts: readonly string[],
): Promise<TextConditions[]> {
  const graph = t5Encoder(readT5Config(inputs.parts.components.text_encoder.config), host.lowering)
  const weights = Object.fromEntries(
    [...parameterShapes(graph)].map(([key, dims]): [string, Tensor] => [
      key,
      { dtype: 'float32', data: average.get(key)!, dims },
    ]),
  )
  const session = await host.openSession(graph, { weights: new Map() })
  try {
    const encoded: TextConditions[] = []
    for (const prompt of prompts.map((one) => tokenise(inputs, one))) {
      const { hidden } = await session.run({ input_ids: prompt.ids, mask: prompt.mask, ...weights })
      encoded.push(conditionsOf(hidden!.data, prompt))
    }
    return encoded
  } finally {
    await session.close()
  }
}
