/**
 * Every change of a dataset's rows.
 *
 *   create → receiving (an upload) ─ arrived → validating ─ succeed → ready ─ remove
 *                       └────────────── fail ──────┘ → failed ─ remove
 */
import type { Project } from '../access/project.ts'
import { Prisma, type Transaction } from '../storage/database.ts'
import type { Storage } from '../storage/storage.ts'
import {
  newDatasetId,
  toDataset,
  type Dataset,
  type DatasetCounts,
  type DatasetFailure,
  type ItemChanges,
} from './dataset.ts'
import { DatasetError } from './errors.ts'
import type { CheckedItem, LabelSource } from './join.ts'
import type { Problem } from './problems.ts'

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

/** A dataset under which the server died so often is taken to be the cause. */
const maxAttempts = 3

export class DatasetStore {
  readonly #storage: Storage

  constructor(storage: Storage) {
    this.#storage = storage
  }

  async create({ project, name, labels, source }: NewDataset): Promise<Dataset> {
    const row = await this.#prisma.dataset.create({
      data: {
        id: newDatasetId(),
        project,
        heldBy: this.#storage.presence.id,
        name,
        labels,
        state: source.kind === 'upload' ? 'receiving' : 'validating',
        source: source.kind,
        folder: source.kind === 'folder' ? source.folder : null,
        expectedBytes: source.kind === 'upload' ? (source.expectedBytes ?? null) : null,
      },
    })
    return toDataset(row)
  }

  async received(id: string, bytes: number): Promise<void> {
    await this.#prisma.dataset.updateMany({ where: { id }, data: { receivedBytes: bytes } })
  }

  /** All of it is there. */
  async arrived(id: string, bytes: number): Promise<void> {
    await this.#prisma.dataset.update({
      where: { id },
      data: { receivedBytes: bytes, state: 'validating' },
    })
  }

  async read(id: string, { files, problems }: { files: number; problems: number }): Promise<void> {
    await this.#prisma.dataset.updateMany({ where: { id }, data: { filesRead: files, problems } })
  }

  /** Forgets what an earlier attempt has found. */
  async beginAttempt(id: string): Promise<void> {
    await this.#prisma.$transaction(async (transaction) => {
      await forgetContent(transaction, id)
      await transaction.dataset.update({
        where: { id },
        data: { attempt: { increment: 1 }, filesRead: 0, problems: 0 },
      })
    })
  }

  /** An attempt that ends because the server shuts down in order counts for nothing. */
  async handBack(id: string): Promise<void> {
    await this.#prisma.dataset.updateMany({
      where: { id, state: 'validating', attempt: { gt: 0 } },
      data: { attempt: { decrement: 1 }, heldBy: null },
    })
  }

  async addItems(datasetId: string, items: readonly CheckedItem[], firstPosition: number): Promise<void> {
    await this.#prisma.datasetItem.createMany({
      data: items.map(({ file: _file, label, aestheticScore, captions, ...item }, index) => ({
        ...item,
        datasetId,
        position: firstPosition + index,
        captions: [...captions],
        label: label ?? null,
        aestheticScore: aestheticScore ?? null,
      })),
    })
  }

  async addProblems(datasetId: string, problems: readonly Problem[], firstPosition: number): Promise<void> {
    await this.#prisma.datasetProblem.createMany({
      data: problems.map((problem, index) => ({
        ...problem,
        itemId: problem.itemId ?? null,
        datasetId,
        position: firstPosition + index,
      })),
    })
  }

  async succeed(id: string, counts: DatasetCounts): Promise<void> {
    await this.#prisma.dataset.updateMany({
      where: { id, state: 'validating' },
      data: { ...counts, state: 'ready', finishedAt: new Date() },
    })
  }

  /** Its problems stay, to tell why. */
  async fail(id: string, { code, message }: DatasetFailure): Promise<void> {
    await this.#prisma.$transaction(async (transaction) => {
      await transaction.datasetProblem.updateMany({ where: { datasetId: id }, data: { itemId: null } })
      await transaction.datasetItem.deleteMany({ where: { datasetId: id } })
      await transaction.dataset.updateMany({
        where: { id },
        data: { state: 'failed', errorCode: code, errorMessage: message, finishedAt: new Date() },
      })
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

  /**
   * What processes left that are gone: uploads that broke off fail, what was being checked is to be checked anew by this process.
   * @returns the ids of the latter
   */
  async recover(): Promise<string[]> {
    const { presence } = this.#storage
    const left = await this.#prisma.$queryRaw<{ id: string; state: string; attempt: number }[]>`
      UPDATE "Dataset" SET "heldBy" = ${presence.id} WHERE "id" IN (
        SELECT "id" FROM "Dataset" AS row WHERE "state" IN ('receiving', 'validating')
          AND ${presence.isGone(Prisma.sql`row."heldBy"`)}
        ORDER BY "createdAt", "id" FOR UPDATE SKIP LOCKED)
      RETURNING "id", "state"::text, "attempt"`
    const again: string[] = []
    for (const { id, state, attempt } of left) {
      if (state === 'receiving') {
        const message = 'the server stopped before all of it had come; send it again'
        await this.fail(id, { code: 'interrupted', message })
      } else if (attempt >= maxAttempts) {
        const message = `the server stopped ${attempt} times while it checked these files`
        await this.fail(id, { code: 'server_failed', message })
      } else again.push(id)
    }
    return again
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

async function forgetContent(transaction: Transaction, datasetId: string): Promise<void> {
  await transaction.datasetProblem.deleteMany({ where: { datasetId } })
  await transaction.datasetItem.deleteMany({ where: { datasetId } })
}
