/** Which models a device serves, and which are in its memory. Under a limit, the least recently used one leaves for the one that comes. */
import { stages, type Stage } from './model.ts'
import type { Pipeline } from './pipeline.ts'
import type { ModelInfo } from './protocol.ts'

export class Residency {
  /** Those that new requests get, by name. */
  readonly #served: Map<string, Pipeline>
  /** Their names are not theirs any more: they end what was begun on them. */
  readonly #leaving = new Set<Pipeline>()
  readonly #limitBytes: number
  /** In memory, least recently used first. */
  readonly #loaded = new Set<Pipeline>()

  /** @param limitBytes what models may take together, weights and work */
  constructor(pipelines: readonly Pipeline[], limitBytes: number) {
    this.#served = new Map(pipelines.map((pipeline) => [pipeline.model.description.name, pipeline]))
    this.#limitBytes = limitBytes
  }

  get(name: string): Pipeline | undefined {
    return this.#served.get(name)
  }

  get names(): readonly string[] {
    return [...this.#served.keys()]
  }

  /** All that requests are made with. */
  get pipelines(): readonly Pipeline[] {
    return [...this.#served.values(), ...this.#leaving]
  }

  get infos(): readonly ModelInfo[] {
    return [...this.#served.values()].map(({ model }) => model.info)
  }

  /** From now on its name means this one. */
  put(pipeline: Pipeline): void {
    const { name } = pipeline.model.description
    this.remove(name)
    this.#served.set(name, pipeline)
  }

  /** From now on there is no such name. */
  remove(name: string): void {
    const before = this.#served.get(name)
    if (before) this.#leaving.add(before)
    this.#served.delete(name)
  }

  /** Frees those whose names are not theirs any more and which nobody needs. @returns them */
  async letGo(isNeeded: (pipeline: Pipeline) => boolean): Promise<readonly Pipeline[]> {
    const gone = [...this.#leaving].filter((pipeline) => !isNeeded(pipeline))
    for (const pipeline of gone) {
      this.#leaving.delete(pipeline)
      await this.unload(pipeline)
    }
    return gone
  }

  async unload(pipeline: Pipeline): Promise<void> {
    this.#loaded.delete(pipeline)
    await pipeline.unload()
  }

  use(pipeline: Pipeline): void {
    if (this.#loaded.delete(pipeline)) this.#loaded.add(pipeline)
  }

  /**
   * Makes room and loads, or brings one stage back that had left. Work that was begun on a model that leaves goes on when it is loaded again.
   * @throws {Error} when the model alone is over the limit; whatever loading throws
   */
  async load(pipeline: Pipeline, stage?: Stage): Promise<void> {
    if (stage && this.#loaded.has(pipeline)) return pipeline.makeReady(stage)
    await this.#makeRoom(pipeline)
    await pipeline.load(stage)
    this.#loaded.add(pipeline)
  }

  /** Loads a whole model, with a place between any two of its stages where other work can be done. @throws as `load` */
  async *loadByStages(pipeline: Pipeline): AsyncGenerator<void, void> {
    await this.#makeRoom(pipeline)
    this.#loaded.add(pipeline)
    try {
      for (const stage of stages) {
        // What does not stay beside the others would leave again at once.
        if (pipeline.model.plan.textEncoder === 'stays') await pipeline.makeReady(stage)
        yield
      }
      await this.load(pipeline)
    } catch (error) {
      await this.unload(pipeline)
      throw error
    }
  }

  async #makeRoom(pipeline: Pipeline): Promise<void> {
    const sizeBytes = pipeline.model.plan.residentBytes
    if (sizeBytes > this.#limitBytes) {
      const [needed, left] = [Math.ceil(sizeBytes / 2 ** 20), Math.floor(this.#limitBytes / 2 ** 20)]
      throw new Error(
        `the model ${pipeline.model.description.name} needs ${needed} MiB for its weights, and ATELIER_MEMORY_LIMIT_MIB leaves ${left} MiB`,
      )
    }
    for (const oldest of this.#loaded) {
      if (this.#mostWith(pipeline) <= this.#limitBytes) break
      if (oldest !== pipeline) await this.unload(oldest)
    }
  }

  /** What the loaded models and this one may come to take: one works at a time, and what the others' calls took stays with them. */
  #mostWith(pipeline: Pipeline): number {
    const own = [...new Set([...this.#loaded, pipeline])].map(({ model }) => model.plan.ownBytes)
    const whileItWorks = own.map((working) =>
      own.reduce((sum, each) => sum + (each === working ? each.working : each.idle), 0),
    )
    return Math.max(...whileItWorks)
  }
}
