/**
 * Which pictures a micro-batch is made of, from seed, stage, step and index alone.
 *
 * Micro-batches follow each other in epochs of `microBatchesPerEpoch`. In an epoch every group's pictures (those of one bucket)
 * are shuffled and cut into micro-batches; the last one of a group is completed with the first pictures of the same shuffle. So
 * in every epoch each picture is drawn at least once, and of a group of n, ⌈n / rows⌉ · rows draws are made, which no two of its
 * pictures share unequally by more than one. Which are drawn more often changes from epoch to epoch.
 *
 * The size of micro-batches matters as little as it can: where all pictures are of one group, a step's pictures are the same,
 * and in the same order, for every size, up to the first micro-batch that had to be completed. With several groups a
 * micro-batch has one shape, so which pictures meet in it must depend on how many fit.
 */
import { RandomNumbers } from './randomness.ts'

export interface SamplerOptions {
  readonly seed: number
  readonly stage: number
  /** Numbers of pictures, each in one group; what may meet in a micro-batch. A picture's shuffle goes by its number. */
  readonly groups: readonly (readonly number[])[]
  /** Pictures of a step. */
  readonly batchSize: number
  /** Pictures of a micro-batch; divides `batchSize`. */
  readonly rows: number
}

export interface DrawnMicroBatch {
  readonly epoch: number
  readonly group: number
  /** As many as there are rows. */
  readonly pictures: readonly number[]
}

export class Sampler {
  readonly microBatchesPerStep: number
  readonly microBatchesPerEpoch: number
  readonly #options: SamplerOptions
  /** The last two: one epoch ends within the step in which the next begins. */
  readonly #epochs = new Map<number, readonly DrawnMicroBatch[]>()

  /** @throws {RangeError} when `rows` does not divide the batch, or there are no pictures */
  constructor(options: SamplerOptions) {
    const { groups, batchSize, rows } = options
    if (!Number.isSafeInteger(rows) || rows < 1 || batchSize % rows !== 0) {
      throw new RangeError(`rows: expected a divisor of the batch size ${batchSize}, got ${rows}`)
    }
    this.#options = options
    this.microBatchesPerStep = batchSize / rows
    this.microBatchesPerEpoch = groups.reduce((sum, { length }) => sum + Math.ceil(length / rows), 0)
    if (this.microBatchesPerEpoch === 0) throw new RangeError('groups: expected pictures, got none')
  }

  /** @param step from 0 */
  microBatch(step: number, index: number): DrawnMicroBatch {
    const count = step * this.microBatchesPerStep + index
    const epoch = Math.floor(count / this.microBatchesPerEpoch)
    return this.#epoch(epoch)[count % this.microBatchesPerEpoch]!
  }

  #epoch(epoch: number): readonly DrawnMicroBatch[] {
    const known = this.#epochs.get(epoch)
    if (known) return known
    const made = shuffledEpoch(this.#options, epoch)
    this.#epochs.set(epoch, made)
    const [oldest] = this.#epochs.keys()
    if (this.#epochs.size > 2) this.#epochs.delete(oldest!)
    return made
  }
}

/**
 * Every picture draws a number, and a group is cut in the order of these. A micro-batch's own place is the number of any one of its
 * pictures: groups mix evenly however small they are, and a group's micro-batches stay in order.
 */
function shuffledEpoch(
  { seed, stage, groups, rows }: SamplerOptions,
  epoch: number,
): readonly DrawnMicroBatch[] {
  const placed: { readonly place: number; readonly drawn: DrawnMicroBatch }[] = []
  for (const [group, numbers] of groups.entries()) {
    const shuffled = numbers.map((picture) => {
      const random = new RandomNumbers({ purpose: 'order', seed, stage, step: epoch, sample: picture })
      return { picture, place: random.next() * 2 ** 20 + (random.next() >>> 12), any: random.uniform() }
    })
    shuffled.sort((a, b) => a.place - b.place || a.picture - b.picture)
    for (let start = 0; start < shuffled.length; start += rows) {
      const own = Math.min(rows, shuffled.length - start)
      const leader = shuffled[start + Math.floor(shuffled[start]!.any * own)]!
      const pictures = Array.from(
        { length: rows },
        (_, row) => shuffled[(start + row) % shuffled.length]!.picture,
      )
      placed.push({ place: leader.place, drawn: { epoch, group, pictures } })
    }
  }
  // Sorting is stable: equal places stay in the order of their groups.
  return placed.sort((a, b) => a.place - b.place).map(({ drawn }) => drawn)
}
