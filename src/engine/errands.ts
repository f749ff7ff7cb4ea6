/** What a device does once and answers for: models that come and go, and checkpoints that are made into something. */
import type { Loop } from './loop.ts'
import { describePlan } from './memory-plan.ts'
import type { OpenedDevice, OpenedModel } from './open-device.ts'
import type { ChildMessage } from './protocol.ts'
import type { Trainer } from './trainer.ts'
import type { Errand, ModelFolder } from './training-protocol.ts'
import type { TrainingUnit } from '../training/host.ts'

export interface ErrandsOptions {
  readonly loop: Loop
  readonly device: Pick<OpenedDevice, 'residency' | 'openModel'>
  readonly trainer: Pick<Trainer, 'exportCheckpoint'>
  readonly tell: (message: ChildMessage) => void
}

export class Errands {
  readonly #options: ErrandsOptions
  /** Models that are loaded and do not serve yet, by name. */
  readonly #opened = new Map<string, OpenedModel>()

  constructor(options: ErrandsOptions) {
    this.#options = options
  }

  begin(id: string, errand: Errand): void {
    switch (errand.kind) {
      case 'open':
        return this.#inBackground(id, this.#open(errand.model))
      case 'discard':
        return this.#inBackground(id, this.#discard(errand.name))
      case 'export':
        return this.#inBackground(id, this.#options.trainer.exportCheckpoint(errand.order))
      // At once: requests that are sent after the message find the names as it says.
      case 'put-live':
        return this.#atOnce(id, () => this.#putLive(errand.name))
      case 'withdraw':
        return this.#atOnce(id, () => this.#options.loop.withdraw(errand.name))
    }
  }

  async *#open(model: ModelFolder): AsyncGenerator<TrainingUnit, void> {
    const { device, tell } = this.#options
    const opened = await device.openModel(model)
    yield { kind: 'prepare' }
    for await (const _ of device.residency.loadByStages(opened.pipeline)) yield { kind: 'prepare' }
    const { plan } = opened.pipeline.model
    tell({ type: 'plan', model: model.name, lines: describePlan(plan) })
    yield* this.#discard(model.name)
    this.#opened.set(model.name, opened)
  }

  async *#discard(name: string): AsyncGenerator<TrainingUnit, void> {
    const opened = this.#opened.get(name)
    if (!opened) return
    this.#opened.delete(name)
    await this.#options.device.residency.unload(opened.pipeline)
    yield { kind: 'prepare' }
  }

  #putLive(name: string): void {
    const opened = this.#opened.get(name)
    if (!opened) throw new Error(`no model ${name} was opened`)
    this.#opened.delete(name)
    this.#options.loop.putLive(opened.pipeline, opened.book)
  }

  #atOnce(id: string, action: () => void): void {
    try {
      action()
      this.#options.tell({ type: 'errand-ended', id })
    } catch (error) {
      this.#failed(id, error)
    }
  }

  #inBackground(id: string, units: AsyncGenerator<TrainingUnit, unknown>): void {
    this.#options.loop.background.add({ kind: 'errand', name: id, units: this.#answering(id, units) })
  }

  async *#answering(
    id: string,
    units: AsyncGenerator<TrainingUnit, unknown>,
  ): AsyncGenerator<TrainingUnit, void> {
    try {
      yield* units
      this.#options.tell({ type: 'errand-ended', id })
    } catch (error) {
      this.#failed(id, error)
    }
  }

  #failed(id: string, error: unknown): void {
    const message = error instanceof Error ? error.message : String(error)
    this.#options.tell({ type: 'errand-ended', id, error: message })
  }
}
