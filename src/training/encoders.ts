/** What turns pictures and texts into what the transformer is trained on: sessions that are opened when they are first needed. */
import type { Graph } from '../graph/ir.ts'
import { openTextEncoder, openVae, type ServedWeights } from '../models/components.ts'
import { tensorsFor } from '../weights/cast.ts'
import type { EncodeImage } from './data/latent-cache.ts'
import type { EncodeText } from './data/text-cache.ts'
import type { TrainingDevice, TrainingSession } from './host.ts'
import type { ModelParts } from './model-parts.ts'

/** Both take one row at a time. */
export class Encoders {
  readonly #vae: LazySession
  readonly #textEncoder: LazySession

  constructor({ components }: ModelParts, cacheDir: string, device: TrainingDevice) {
    const asServed = { lowering: device.lowering, precision: 'float32' } as const
    this.#vae = new LazySession(async () => {
      const { encoder, weights } = openVae(components.vae, asServed)
      return openServed(device, encoder, weights, cacheDir)
    })
    this.#textEncoder = new LazySession(async () => {
      const { graphs, weights } = openTextEncoder(components.text_encoder, asServed)
      return openServed(device, graphs[0], weights, cacheDir)
    })
  }

  readonly image: EncodeImage = async (image) => {
    const { mean, logvar } = await (await this.#vae.opened()).run({ image })
    return { mean: mean!.data, logvar: logvar!.data }
  }

  readonly text: EncodeText = async (ids, mask) => {
    const { hidden } = await (await this.#textEncoder.opened()).run({ input_ids: ids, mask })
    return hidden!.data
  }

  /** They are opened again when something is missing after all. */
  async close(): Promise<void> {
    await this.#vae.close()
    await this.#textEncoder.close()
  }
}

async function openServed(
  device: TrainingDevice,
  graph: Graph,
  weights: ServedWeights,
  cacheDir: string,
): Promise<TrainingSession> {
  return device.openSession(graph, {
    weights: await tensorsFor(weights, weights.dtypes, cacheDir),
    buffers: 'returned',
  })
}

class LazySession {
  readonly #open: () => Promise<TrainingSession>
  #session: Promise<TrainingSession> | undefined

  constructor(open: () => Promise<TrainingSession>) {
    this.#open = open
  }

  opened(): Promise<TrainingSession> {
    this.#session ??= this.#open()
    return this.#session
  }

  async close(): Promise<void> {
    const session = await this.#session
    this.#session = undefined
    await session?.close()
  }
}
