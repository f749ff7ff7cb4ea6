/** The sessions of one run on a device's provider: those that are left open are closed with it. */
import type { Graph } from '../graph/ir.ts'
import type { SessionNeeds, TrainingDevice, TrainingSession } from '../training/host.ts'
import { partlyFed, Session, type SessionOptions, type Tensor } from './session.ts'

export type ProviderOptions = Pick<SessionOptions, 'provider' | 'deviceIndex' | 'threads'> &
  Pick<TrainingDevice, 'lowering'>

export class TrainingSessions implements TrainingDevice {
  readonly #options: ProviderOptions
  readonly #open = new Set<Session>()

  constructor(options: ProviderOptions) {
    this.#options = options
  }

  get lowering(): TrainingDevice['lowering'] {
    return this.#options.lowering
  }

  readonly openSession = async (
    graph: Graph,
    { weights, buffers = 'kept', frozen = 'shared' }: SessionNeeds,
  ): Promise<TrainingSession> => {
    const prepacking = frozen === 'packed' ? 'on' : 'off'
    const { lowering, ...provider } = this.#options
    const session = await Session.open(graph, partlyFed(graph, weights), {
      ...provider,
      fusion: lowering === 'plain' ? 'elementary' : 'all',
      buffers,
      prepacking,
    })
    this.#open.add(session)
    return {
      run: async (feeds, into = {}) =>
        // The run's tensors say their type and their data apart from each other.
        floats(await session.run(feeds as Readonly<Record<string, Tensor>>, { into })),
      close: async () => {
        if (this.#open.delete(session)) await session.close()
      },
    }
  }

  async closeAll(): Promise<void> {
    for (const session of this.#open) {
      this.#open.delete(session)
      await session.close()
    }
  }
}

type Outputs = Awaited<ReturnType<TrainingSession['run']>>

/** @throws {TypeError} when an output is not in float32 */
function floats(outputs: Readonly<Record<string, Tensor>>): Outputs {
  return Object.fromEntries(
    Object.entries(outputs).map(([name, { dtype, data, dims }]) => {
      if (dtype !== 'float32') throw new TypeError(`expected ${name} in float32, got ${dtype}`)
      return [name, { data, dims }]
    }),
  )
}
