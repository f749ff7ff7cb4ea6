/** Looks at generations and changes none: one, a page of them, what is to be expected of one, and how many there are. */
import { ownedBy, type Project, type Whose } from '../access/project.ts'
import type { Prisma } from '../storage/database.ts'
import type { Storage } from '../storage/storage.ts'
import { GenerationError } from './errors.ts'
import { toGeneration, toImageRecord, type Generation, type ImageRecord } from './generation.ts'

export interface ListOptions {
  /** `nextCursor` of the page before. */
  readonly cursor?: string | undefined
  /** 1 … 100 */
  readonly limit?: number | undefined
  readonly state?: Generation['state'] | undefined
  readonly model?: string | undefined
  /** Inclusive. */
  readonly createdAfter?: Date | undefined
  /** Exclusive. */
  readonly createdBefore?: Date | undefined
}

export interface GenerationPage {
  /** Newest first. */
  readonly data: readonly Generation[]
  /** Undefined on the last page. */
  readonly nextCursor: string | undefined
}

/** What lies before a generation that waits. */
export interface Place {
  readonly position: number
  /** Expected device time of all that goes before it. */
  readonly aheadMs: number
  readonly ownMs: number
}

const defaultLimit = 20

export class GenerationReader {
  readonly #storage: Storage

  constructor(storage: Storage) {
    this.#storage = storage
  }

  async get(project: Project, id: string): Promise<Generation | undefined> {
    return (await this.withEventCount(project, id))?.generation
  }

  /** @throws {GenerationError} `not_found` */
  async isFinal(project: Project, id: string): Promise<boolean> {
    const where = { id, project }
    const row = await this.#prisma.generation.findUnique({ where, select: { finishedAt: true } })
    if (!row) throw new GenerationError('not_found', `there is no generation ${id}`)
    return row.finishedAt !== null
  }

  async withEventCount(
    project: Project,
    id: string,
  ): Promise<{ readonly generation: Generation; readonly eventCount: number } | undefined> {
    const row = await this.#prisma.generation.findUnique({
      where: { id, project },
      include: { images: true },
    })
    return row ? { generation: toGeneration(row), eventCount: row.eventCount } : undefined
  }

  async image(whose: Whose, id: string): Promise<ImageRecord | undefined> {
    const where = { id, generation: ownedBy(whose) }
    const row = await this.#prisma.image.findUnique({ where, include: { generation: true } })
    return row ? toImageRecord(row) : undefined
  }

  /** @throws {GenerationError} `invalid_cursor` */
  async list(
    project: Project,
    { cursor, limit = defaultLimit, ...filters }: ListOptions,
  ): Promise<GenerationPage> {
    const { state, model, createdAfter, createdBefore } = filters
    const rows = await this.#prisma.generation.findMany({
      where: {
        project,
        ...(state === undefined ? {} : { state }),
        ...(model === undefined ? {} : { model }),
        createdAt: {
          ...(createdAfter === undefined ? {} : { gte: createdAfter }),
          ...(createdBefore === undefined ? {} : { lt: createdBefore }),
        },
        ...(cursor === undefined ? {} : { AND: beyond(readCursor(cursor)) }),
      },
      orderBy: [{ createdAt: 'desc' }, { id: 'desc' }],
      take: limit + 1,
      include: { images: true },
    })
    const page = rows.slice(0, limit)
    const last = page.at(-1)
    return {
      data: page.map(toGeneration),
      nextCursor: last && rows.length > limit ? writeCursor(last) : undefined,
    }
  }

  async count(): Promise<{ queued: number; running: number }> {
    const [queued, running] = await Promise.all([
      this.#prisma.generation.count({ where: { state: 'queued' } }),
      this.#prisma.generation.count({ where: { state: 'running' } }),
    ])
    return { queued, running }
  }

  /** What waits and runs, in one look. */
  async backlog(): Promise<{ queued: number; running: number; workMs: number; oldestQueuedMs: number }> {
    const [row] = await this.#prisma.$queryRaw<
      [{ queued: number; running: number; workMs: number; oldest: Date | null }]
    >`
      SELECT (count(*) FILTER (WHERE "state" = 'queued'))::int AS "queued",
        (count(*) FILTER (WHERE "state" = 'running'))::int AS "running",
        coalesce(sum("expectedMs"), 0) AS "workMs",
        min("createdAt") FILTER (WHERE "state" = 'queued') AS "oldest"
      FROM "Generation" WHERE "state" IN ('queued', 'running')`
    const { oldest, ...backlog } = row
    return {
      ...backlog,
      oldestQueuedMs: oldest === null ? 0 : Math.max(0, Date.now() - oldest.getTime()),
    }
  }

  /** @returns undefined when it does not wait any more */
  async place(id: string): Promise<Place | undefined> {
    const [row] = await this.#prisma.$queryRaw<Place[]>`
      SELECT own."expectedMs" AS "ownMs",
        (SELECT count(*) FROM "Generation" AS other WHERE other."state" = 'queued'
          AND (NOT other."claimed", other."turnAt", other."id") < (NOT own."claimed", own."turnAt", own."id"))::int AS "position",
        (SELECT coalesce(sum(other."expectedMs"), 0) FROM "Generation" AS other
          WHERE other."state" = 'running' OR (other."state" = 'queued'
          AND (NOT other."claimed", other."turnAt", other."id") < (NOT own."claimed", own."turnAt", own."id"))) AS "aheadMs"
      FROM "Generation" AS own WHERE own."id" = ${id} AND own."state" = 'queued'`
    return row
  }

  /** Steps that a running generation has told of, over all of its pictures. */
  async stepsTold(id: string): Promise<number> {
    const [row] = await this.#prisma.$queryRaw<[{ steps: number }]>`
      SELECT coalesce(sum("step"), 0)::int AS "steps" FROM (
        SELECT max(("data" ->> 'step')::int) AS "step" FROM "GenerationEvent"
        WHERE "generationId" = ${id} AND "type" = 'step'
          AND "sequence" > (SELECT max("sequence") FROM "GenerationEvent" WHERE "generationId" = ${id} AND "type" = 'started')
        GROUP BY "data" ->> 'image') AS images`
    return row.steps
  }

  get #prisma() {
    return this.#storage.database.prisma
  }
}

interface Cursor {
  readonly createdAt: Date
  readonly id: string
}

/** The bound on the time alone is what the index is searched by. */
const beyond = ({ createdAt, id }: Cursor): Prisma.GenerationWhereInput[] => [
  { createdAt: { lte: createdAt } },
  { OR: [{ createdAt: { lt: createdAt } }, { id: { lt: id } }] },
]

const writeCursor = ({ createdAt, id }: Cursor): string =>
  Buffer.from(`${createdAt.getTime()} ${id}`).toString('base64url')

function readCursor(text: string): Cursor {
  const [, time, id] = /^(\d{1,15}) (\w{1,64})$/.exec(Buffer.from(text, 'base64url').toString()) ?? []
  if (time === undefined || id === undefined) {
    throw new GenerationError('invalid_cursor', 'cursor: expected the next_cursor of an earlier page', {
      parameter: 'cursor',
    })
  }
  return { createdAt: new Date(Number(time)), id }
}
