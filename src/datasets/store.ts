/**
 * Every change of a dataset's rows but those of whoever receives or checks it (`claims.ts`).
 *
 *   create → receiving (an upload) ─ arrived → validating ─ succeed → ready ─ remove
 *                       └────────────── fail ──────┘ → failed ─ remove
 */
import type { Project } from '../access/project.ts'
import type { Transaction } from '../storage/database.ts'
import type { Storage } from '../storage/storage.ts'
import type { Claim } from './claims.ts'
import { newDatasetId, toDataset, type Dataset, type ItemChanges } from './dataset.ts'
import { DatasetError } from './errors.ts'
import type { LabelSource } from './join.ts'

export interface NewDataset {
  readonly project: Project
  readonly name: string
  readonly labels: LabelSource
  readonly source:
    | { readonly kind: 'upload'; readonly expectedBytes: number | undefined }
    | { readonly kind: 'folder'; readonly folder: string }
}

/** Asked within the transaction that deletes: whether anything works with this dataset. */
export type InUse = (transaction: Transaction, datasetId: string) => Promise<boolean>

export class DatasetStore {
  readonly #storage: Storage

  constructor(storage: Storage) {
    this.#storage = storage
  }

  async create({ project, name, labels, source }: NewDataset): Promise<{ dataset: Dataset; claim: Claim }> {
    return this.#prisma.$transaction(async (transaction) => {
      const heldBy = await this.#storage.presence.require(transaction)
      const row = await transaction.dataset.create({
        data: {
          id: newDatasetId(),
          project,
          heldBy,
          name,
          labels,
          state: source.kind === 'upload' ? 'receiving' : 'validating',
          source: source.kind,
          folder: source.kind === 'folder' ? source.folder : null,
          expectedBytes: source.kind === 'upload' ? (source.expectedBytes ?? null) : null,
        },
      })
      return { dataset: toDataset(row), claim: { id: row.id, heldBy } }
    })
  }

  /** @returns whether there was one @throws {DatasetError} `in_use` */
  async remove(project: Project, id: string, inUse: InUse): Promise<boolean> {
    return this.#prisma.$transaction(async (transaction) => {
      // Whoever begins to work with it holds this row meanwhile.
      await transaction.$queryRaw`SELECT 1 FROM "Dataset" WHERE "id" = ${id} FOR UPDATE`
      if (await inUse(transaction, id))
        throw new DatasetError('in_use', 'expected a dataset that no job works with, got one that a job does')
      const { count } = await transaction.dataset.deleteMany({ where: { id, project } })
      return count > 0
    })
  }

  /** @throws {DatasetError} `not_found`, `item_not_found`, `not_ready` */
  async changeItem(project: Project, datasetId: string, id: string, changes: ItemChanges): Promise<void> {
    const { captions, label, aestheticScore } = changes
    await this.#prisma.$transaction(async (transaction) => {
      await requireReady(transaction, project, datasetId)
      const key = { datasetId_id: { datasetId, id } }
      const before = await transaction.datasetItem.findUnique({ where: key })
      if (!before) throw itemNotFound(id)
      const after = await transaction.datasetItem.update({
        where: key,
        data: {
          ...(captions !== undefined && { captions: [...captions] }),
          ...(label !== undefined && { label }),
          ...(aestheticScore !== undefined && { aestheticScore }),
        },
      })
      const change = (has: (item: typeof after) => boolean) => Number(has(after)) - Number(has(before))
      await transaction.dataset.update({
        where: { id: datasetId },
        data: {
          captioned: { increment: change((item) => item.captions.length > 0) },
          labelled: { increment: change((item) => item.label !== null) },
          scored: { increment: change((item) => item.aestheticScore !== null) },
        },
      })
    })
  }

  /** Ids of datasets that have files. */
  async withFiles(): Promise<ReadonlySet<string>> {
    const rows = await this.#prisma.dataset.findMany({
      where: { state: { in: ['ready', 'validating'] } },
      select: { id: true },
    })
    return new Set(rows.map(({ id }) => id))
  }

  get #prisma() {
    return this.#storage.database.prisma
  }
}

/**
 * For those who begin to work with a dataset: as long as the transaction lasts it cannot be deleted.
 * @throws {DatasetError} `not_found`, `not_ready`
 */
export async function requireReady(transaction: Transaction, project: Project, id: string): Promise<void> {
  const [row] = await transaction.$queryRaw<{ state: string }[]>`
    SELECT "state"::text FROM "Dataset" WHERE "id" = ${id} AND "project" = ${project} FOR UPDATE`
  if (!row) throw datasetNotFound(id)
  if (row.state !== 'ready') throw notReady(row.state)
}

export const notReady = (state: string): DatasetError =>
  new DatasetError('not_ready', `expected a dataset that is ready, got one that is ${state}`)

export const datasetNotFound = (id: string): DatasetError =>
  new DatasetError('not_found', `there is no dataset ${id}`)
export const itemNotFound = (id: string): DatasetError =>
  new DatasetError('item_not_found', `there is no picture ${id} in this dataset`)
