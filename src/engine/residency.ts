/** Which models are in a device's memory. Under a limit, the least recently used one leaves for the one that comes. */
import type { Stage } from './model.ts'
import type { Pipeline } from './pipeline.ts'
import type { ModelInfo } from './protocol.ts'

export class Residency {
  readonly #pipelines: ReadonlyMap<string, Pipeline>
  readonly #limitBytes: number
  /** Names of loaded models, least recently used first. */
  readonly #loaded = new Set<string>()

  /** @param limitBytes what models may take together, weights and work */
  constructor(pipelines: readonly Pipeline[], limitBytes: number) {
    this.#pipelines = new Map(pipelines.map((pipeline) => [pipeline.model.description.name, pipeline]))
    this.#limitBytes = limitBytes
  }

  get(name: string): Pipeline | undefined {
    return this.#pipelines.get(name)
  }

  get names(): readonly string[] {
    return [...this.#pipelines.keys()]
  }

  get infos(): readonly ModelInfo[] {
    return [...this.#pipelines.values()].map(({ model }) => model.info)
  }

  use(name: string): void {
    if (this.#loaded.delete(name)) this.#loaded.add(name)
  }

  /**
   * Makes room and loads, or brings one stage back that had left. Work that was begun on a model that leaves goes on when it is loaded again.
   * @throws {Error} when the model alone is over the limit; whatever loading throws
   */
  async load(pipeline: Pipeline, stage?: Stage): Promise<void> {
    const { name } = pipeline.model.description
    const sizeBytes = pipeline.model.plan.residentBytes
    if (stage && this.#loaded.has(name)) return pipeline.makeReady(stage)
    if (sizeBytes > this.#limitBytes) {
      const [needed, left] = [Math.ceil(sizeBytes / 2 ** 20), Math.floor(this.#limitBytes / 2 ** 20)]
      throw new Error(
        `the model ${name} needs ${needed} MiB for its weights, and ATELIER_MEMORY_LIMIT_MIB leaves ${left} MiB`,
      )
    }
    for (const oldest of this.#loaded) {
      if (this.#mostWith(name) <= this.#limitBytes) break
      this.#loaded.delete(oldest)
      await this.#pipelines.get(oldest)?.unload()
    }
    await pipeline.load(stage)
    this.#loaded.add(name)
  }

  /** What the loaded models and this one may come to take: one works at a time, and what the others' calls took stays with them. */
  #mostWith(name: string): number {
    const own = [...new Set([...this.#loaded, name])].map(
      (one) => this.#pipelines.get(one)!.model.plan.ownBytes,
    )
    const whileItWorks = own.map((working) =>
      own.reduce((sum, each) => sum + (each === working ? each.working : each.idle), 0),
    )
    return Math.max(...whileItWorks)
  }
}
