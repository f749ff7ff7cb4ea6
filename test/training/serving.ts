/** Sessions as a device gives them to a run, and pictures as serving makes them. */
import { Model } from '../../src/engine/model.ts'
import { Pipeline } from '../../src/engine/pipeline.ts'
import { partlyFed, Session, type Tensor } from '../../src/engine/session.ts'
import { maxPromptTokens } from '../../src/models/components.ts'
import { readPixArtConfig } from '../../src/models/pixart.ts'
import { readT5Config, t5Encoder } from '../../src/models/t5.ts'
import { openTokenizer } from '../../src/text/tokenizer.ts'
import type { TrainingDevice } from '../../src/training/host.ts'
import type { Denoiser } from '../../src/training/sample-latents.ts'
import { openCheckpoint } from '../../src/weights/checkpoint.ts'
import { temporaryFolder } from '../weights/folder.ts'

/** Opens sessions of one thread; what is told is forgotten. */
export const sessions: TrainingDevice = {
  lowering: 'serve',
  openSession: async (graph, { weights, buffers = 'kept', frozen = 'shared' }) => {
    const prepacking = frozen === 'packed' ? 'on' : 'off'
    const options = { provider: 'cpu', threads: 1, buffers, prepacking } as const
    const session = await Session.open(graph, partlyFed(graph, weights), options)
    return {
      run: async (feeds, into = {}) => {
        const outputs = await session.run(feeds as Readonly<Record<string, Tensor>>, { into })
        return Object.fromEntries(
          Object.entries(outputs).map(([name, { dtype, data, dims }]) => {
            if (dtype !== 'float32') throw new Error(`${name} is ${dtype}`)
            return [name, { data, dims }]
          }),
        )
      },
      close: () => session.close(),
    }
  },
}

/** What a checkpoint's transformer is told of prompts, by its own text encoder. */
export async function textDenoiser(folder: string): Promise<Denoiser & { readonly kind: 'text' }> {
  const { transformer, textEncoder, tokenizer: tokens } = await openCheckpoint(folder)
  const tokenizer = await openTokenizer(tokens.folder)
  const encoder = t5Encoder(readT5Config(textEncoder.config), 'serve')
  return {
    kind: 'text',
    config: readPixArtConfig(transformer.config),
    encode: async (prompts) => {
      const session = await sessions.openSession(encoder, { weights: textEncoder.tensors })
      const texts = []
      for (const prompt of prompts) {
        const { ids, mask } = tokenizer.encode(prompt, maxPromptTokens)
        const dims = [1, maxPromptTokens]
        const { hidden } = await session.run({
          input_ids: { dtype: 'int32', data: Int32Array.from(ids), dims },
          mask: { dtype: 'float32', data: Float32Array.from(mask), dims },
        })
        texts.push({ hidden: hidden!.data, mask: Float32Array.from(mask) })
      }
      await session.close()
      return texts
    },
  }
}

export interface PictureRequest {
  readonly prompt: string
  readonly seed: number
  readonly steps: number
  readonly guidanceScale: number
  readonly width: number
  readonly height: number
}

/** The pixels of each request, by the code that serves, at just that size. */
export async function serve(
  folder: string,
  requests: readonly PictureRequest[],
): Promise<readonly Uint8Array[]> {
  const model = await Model.open('exported', folder, {
    provider: 'cpu',
    threads: 1,
    cacheDir: await temporaryFolder(),
    lowering: 'serve',
    onNote: () => undefined,
  })
  const pipeline = new Pipeline(model, { promptBytes: 2 ** 20, contextBytes: 2 ** 20 })
  await pipeline.load()
  const pictures: Uint8Array[] = []
  for (const { seed, width, height, ...request } of requests) {
    const scheduler = model.description.defaultScheduler
    const whole = { ...request, negativePrompt: '', cleanCaption: false, scheduler }
    const prepared = pipeline.prepareAt({ width, height }, whole)
    const [rows = []] = await pipeline.encode([prepared])
    const denoising = pipeline.begin(prepared, rows, whole, { kind: 'seed', seed, index: 0 })
    while (denoising.step < denoising.solver.steps) await pipeline.step([denoising])
    let hidden = pipeline.decoderInput(denoising)
    for (let part = 0; part < model.decoderParts; part++)
      [hidden = hidden] = await pipeline.decodePart(part, [hidden])
    pictures.push(pipeline.finishPixels(hidden, denoising))
  }
  await pipeline.unload()
  return pictures
}
