/** The home device's side of the help that a job gets: offers a step's micro-batches, and takes in what comes back. */
import { checkpointName } from './checkpoint.ts'
import { clearExchange, readGradients, writeWeights } from './exchange.ts'
import type { Peers } from './host.ts'
import type { StageInputs } from './stage-inputs.ts'
import type { Tensors } from './tensors.ts'
import { waitFor, type Units } from './units.ts'

export class PeerGradients {
  readonly #peers: Peers
  readonly #inputs: StageInputs

  constructor(peers: Peers, inputs: StageInputs) {
    this.#peers = peers
    this.#inputs = inputs
  }

  /** Offers all micro-batches of a step, if anybody could take one. What was offered before is withdrawn, and its files go. */
  async *offer(
    step: number,
    microBatches: number,
    from: { readonly weights: Tensors; readonly lossScale: number },
  ): Units {
    const { job, index: stage, backbone } = this.#inputs
    this.#peers.offer([])
    await clearExchange(job.folder)
    if (this.#peers.free === 'nobody') return
    const weights = yield* waitFor(
      writeWeights(job.folder, checkpointName(stage, step), backbone.trained, from),
    )
    this.#peers.offer(
      Array.from({ length: microBatches }, (_, microBatch) => ({ stage, step, microBatch, weights })),
    )
  }

  /**
   * Takes a micro-batch's gradients in, if another device has computed them or is about to.
   * @returns the loss; undefined when it is to be computed here
   */
  async *delivered(microBatch: number, gradients: Tensors): Units<number | undefined> {
    const taken = this.#peers.take(microBatch)
    if (taken === 'open') return undefined
    try {
      return await readGradients(yield* waitFor(taken), this.#inputs.backbone.trained, gradients)
    } catch {
      // The device is gone, or what it wrote.
      return undefined
    }
  }

  async close(): Promise<void> {
    this.#peers.offer([])
    await clearExchange(this.#inputs.job.folder)
  }
}
