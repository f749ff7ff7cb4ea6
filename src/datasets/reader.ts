/** Looks at datasets and changes none: one, a page of them, their pictures and problems, and what can be said of these as a whole. */
import { bucketsFor, nearestBucket, type Bucket } from '../diffusion/buckets.ts'
import { ownedBy, type Project, type Whose } from '../access/project.ts'
import type { Prisma } from '../storage/database.ts'
import type { Storage } from '../storage/storage.ts'
import type { TrainingItem } from '../training/job.ts'
import {
  toDataset,
  toItem,
  toProblem,
  toTrainingItem,
  type Dataset,
  type DatasetItem,
  type DatasetProblem,
} from './dataset.ts'
import { DatasetError } from './errors.ts'
import { captionProblems } from './problems.ts'

export interface PageOptions {
  /** `nextCursor` of the page before. */
  readonly cursor?: string | undefined
  /** 1 … 100 */
  readonly limit?: number | undefined
}

export interface ItemFilters extends PageOptions {
  /** Only pictures that something is wrong with, or that have no caption. */
  readonly filter?: 'problems' | 'uncaptioned' | undefined
  readonly label?: string | undefined
}

export interface Page<T> {
  readonly data: readonly T[]
  /** Undefined on the last page. */
  readonly nextCursor: string | undefined
}

export interface LabelCount {
  readonly label: string
  readonly items: number
}

export interface TrainableCount {
  readonly items: number
  /** Of these, how many have no label. */
  readonly unlabelled: number
  readonly uncaptioned: number
}

export interface BucketCount extends Bucket {
  readonly items: number
}

const defaultLimit = 20
const snapshotBatch = 1000

export class DatasetReader {
  readonly #storage: Storage

  constructor(storage: Storage) {
    this.#storage = storage
  }

  async get(whose: Whose, id: string): Promise<Dataset | undefined> {
    const row = await this.#prisma.dataset.findUnique({ where: { id, ...ownedBy(whose) } })
    return row ? toDataset(row) : undefined
  }

  /** Newest first. @throws {DatasetError} `invalid_cursor` */
  async list(project: Project, { cursor, limit = defaultLimit }: PageOptions): Promise<Page<Dataset>> {
    const rows = await this.#prisma.dataset.findMany({
      where: { project, ...(cursor !== undefined && { AND: beyond(readCursor(cursor)) }) },
      orderBy: [{ createdAt: 'desc' }, { id: 'desc' }],
      take: limit + 1,
    })
    return pageOf(rows, limit, toDataset, ({ createdAt, id }) =>
      Buffer.from(`${createdAt.getTime()} ${id}`).toString('base64url'),
    )
  }

  async item(whose: Whose, datasetId: string, id: string): Promise<DatasetItem | undefined> {
    const row = await this.#prisma.datasetItem.findUnique({
      where: { datasetId_id: { datasetId, id }, dataset: ownedBy(whose) },
      include: { problems: true },
    })
    return row ? toItem(row) : undefined
  }

  // What follows is of one dataset that was found before, by whoever may see it.

  /** In the order of their paths. @throws {DatasetError} `invalid_cursor` */
  async items(datasetId: string, filters: ItemFilters): Promise<Page<DatasetItem>> {
    const { cursor, limit = defaultLimit, label, filter } = filters
    const rows = await this.#prisma.datasetItem.findMany({
      where: {
        datasetId,
        ...after(cursor),
        ...(label !== undefined && { label }),
        ...(filter === 'problems' && { problems: { some: {} } }),
        ...(filter === 'uncaptioned' && { captions: { isEmpty: true } }),
      },
      orderBy: { position: 'asc' },
      take: limit + 1,
      include: { problems: { orderBy: { position: 'asc' } } },
    })
    return pageOf(rows, limit, toItem, ({ position }) => String(position))
  }

  /** In the order in which they were found. @throws {DatasetError} `invalid_cursor` */
  async problems(
    datasetId: string,
    { cursor, limit = defaultLimit }: PageOptions,
  ): Promise<Page<DatasetProblem>> {
    const rows = await this.#prisma.datasetProblem.findMany({
      where: { datasetId, ...after(cursor) },
      orderBy: { position: 'asc' },
      take: limit + 1,
    })
    return pageOf(rows, limit, toProblem, ({ position }) => String(position))
  }

  /** The most frequent first. */
  async labels(datasetId: string, limit: number): Promise<LabelCount[]> {
    return this.#prisma.$queryRaw<LabelCount[]>`
      SELECT "label", count(*)::int AS "items" FROM "DatasetItem"
      WHERE "datasetId" = ${datasetId} AND "label" IS NOT NULL
      GROUP BY "label" ORDER BY "items" DESC, "label" LIMIT ${limit}`
  }

  async countLabels(datasetId: string): Promise<number> {
    const [row] = await this.#prisma.$queryRaw<[{ labels: number }]>`
      SELECT count(DISTINCT "label")::int AS "labels" FROM "DatasetItem" WHERE "datasetId" = ${datasetId}`
    return row.labels
  }

  /** Pictures whose caption could not be used, and that have no other. */
  async countBadCaptions(datasetId: string): Promise<number> {
    return this.#prisma.datasetItem.count({
      where: {
        datasetId,
        captions: { isEmpty: true },
        problems: { some: { code: { in: [...captionProblems] } } },
      },
    })
  }

  /** Of its pictures with an aesthetic score of so much at least, or of all. */
  async countTrainable(datasetId: string, minAestheticScore = -Infinity): Promise<TrainableCount> {
    const where = {
      datasetId,
      ...(minAestheticScore > -Infinity && { aestheticScore: { gte: minAestheticScore } }),
    }
    const { datasetItem } = this.#prisma
    const [items, unlabelled, uncaptioned] = await Promise.all([
      datasetItem.count({ where }),
      datasetItem.count({ where: { ...where, label: null } }),
      datasetItem.count({ where: { ...where, captions: { isEmpty: true } } }),
    ])
    return { items, unlabelled, uncaptioned }
  }

  /** How its pictures fall into the buckets of a resolution, the fullest first. */
  async buckets(datasetId: string, resolution: number): Promise<BucketCount[]> {
    const sizes = await this.#prisma.$queryRaw<(Bucket & { items: number })[]>`
      SELECT "width", "height", count(*)::int AS "items" FROM "DatasetItem"
      WHERE "datasetId" = ${datasetId} GROUP BY "width", "height"`
    const buckets = bucketsFor(resolution)
    const counts = new Map<Bucket, number>()
    for (const size of sizes) {
      const bucket = nearestBucket(buckets, size)
      counts.set(bucket, (counts.get(bucket) ?? 0) + size.items)
    }
    return [...counts]
      .map(([bucket, items]) => ({ ...bucket, items }))
      .sort((a, b) => b.items - a.items || a.width - b.width)
  }

  /** All of them, in the order of their paths. */
  async *trainingItems(datasetId: string, folder: string): AsyncGenerator<TrainingItem> {
    for (let position = -1; ;) {
      const rows = await this.#prisma.datasetItem.findMany({
        where: { datasetId, position: { gt: position } },
        orderBy: { position: 'asc' },
        take: snapshotBatch,
      })
      for (const row of rows) yield toTrainingItem(row, folder)
      const last = rows.at(-1)
      if (!last) return
      position = last.position
    }
  }

  get #prisma() {
    return this.#storage.database.prisma
  }
}

function pageOf<R, T>(
  rows: readonly R[],
  limit: number,
  read: (row: R) => T,
  cursorOf: (row: R) => string,
): Page<T> {
  const page = rows.slice(0, limit)
  const last = page.at(-1)
  return {
    data: page.map((row) => read(row)),
    nextCursor: last !== undefined && rows.length > limit ? cursorOf(last) : undefined,
  }
}

function after(cursor: string | undefined): { position?: { gt: number } } {
  if (cursor === undefined) return {}
  if (!/^\d{1,9}$/.test(cursor)) throw invalidCursor()
  return { position: { gt: Number(cursor) } }
}

interface Cursor {
  readonly createdAt: Date
  readonly id: string
}

/** The bound on the time alone is what the index is searched by. */
const beyond = ({ createdAt, id }: Cursor): Prisma.DatasetWhereInput[] => [
  { createdAt: { lte: createdAt } },
  { OR: [{ createdAt: { lt: createdAt } }, { id: { lt: id } }] },
]

function readCursor(text: string): Cursor {
  const [, time, id] = /^(\d{1,15}) (\w{1,64})$/.exec(Buffer.from(text, 'base64url').toString()) ?? []
  if (time === undefined || id === undefined) throw invalidCursor()
  return { createdAt: new Date(Number(time)), id }
}

const invalidCursor = () =>
  new DatasetError('invalid_cursor', 'cursor: expected the next_cursor of an earlier page', {
    parameter: 'cursor',
  })
