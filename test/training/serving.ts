/** Sessions as a device gives them to a run, and pictures as serving makes them. */
import { Model } from '../../src/engine/model.ts'
import { Pipeline } from '../../src/engine/pipeline.ts'
import { partlyFed, Session, type Tensor } from '../../src/engine/session.ts'
import type { TrainingHost } from '../../src/training/host.ts'
import { temporaryFolder } from '../weights/folder.ts'

/** Opens sessions of one thread; what is told is forgotten. */
export const sessions: Pick<TrainingHost, 'openSession'> = {
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
    pictures.push(pipeline.finishPixels(hidden, denoising, { width, height }))
  }
  await pipeline.unload()
  return pictures
}
