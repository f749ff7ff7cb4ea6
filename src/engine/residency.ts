/** Which models are in a device's memory. Under a limit, the least recently used one leaves for the one that comes. */
import type { Stage } from './model.ts'
import type { Pipeline } from './pipeline.ts'
import type { ModelInfo } from './protocol.ts'

export class Residency {
  readonly #pipelines: ReadonlyMap<string, Pipeline>
  readonly #limitBytes: number
  /** Names of loaded models, least recently used first. */
  readonly #loaded = new Set<string>()

  /** @param limitBytes what weights may take together */
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

  /** What the loaded models take. */
  get bytes(): number {
    return [...this.#loaded].reduce((sum, name) => sum + this.#sizeOf(name), 0)
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
    if (stage && this.#loaded.has(name)) return pipeline.model.prepare(stage)
    if (sizeBytes > this.#limitBytes) {
      const [needed, left] = [Math.ceil(sizeBytes / 2 ** 20), Math.floor(this.#limitBytes / 2 ** 20)]
      throw new Error(
        `the model ${name} needs ${needed} MiB for its weights, and ATELIER_MEMORY_LIMIT_MIB leaves ${left} MiB`,
      )
    }
    for (const oldest of this.#loaded) {
      if (this.bytes + sizeBytes <= this.#limitBytes) break
      this.#loaded.delete(oldest)
      await this.#pipelines.get(oldest)?.model.unload()
    }
    await pipeline.load(stage)
    this.#loaded.add(name)
  }

  #sizeOf(name: string): number {
    return this.#pipelines.get(name)?.model.plan.residentBytes ?? 0
  }
}
