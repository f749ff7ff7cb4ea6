/** The table of keys: made, looked at, changed, revoked. Nothing is ever removed from it. */
import { randomBytes } from 'node:crypto'
import type { ApiKey as KeyRow } from '../storage/client/client.ts'
import { notify, type Database, type Prisma } from '../storage/database.ts'
import { AccessError } from './errors.ts'
import { hashOf, newKeyText, prefixOf } from './key-text.ts'
import { ownedBy, type Project, type Whose } from './project.ts'
import { scopes, type Scope } from './scopes.ts'

/** Told when a key was made, changed or revoked; the payload is its id. */
export const keyChannel = 'atelier_api_key'

export interface ApiKey {
  /** `key_…` */
  readonly id: string
  readonly project: Project
  readonly name: string
  /** The beginning of the key itself. */
  readonly prefix: string
  readonly scopes: readonly Scope[]
  /** Limits of its own; undefined where the configured ones hold. */
  readonly requestsPerMinute: number | undefined
  readonly maxInFlight: number | undefined
  readonly imagesPerMonth: number | undefined
  /** Where the ends of its generations are told, unless a request says otherwise. */
  readonly webhookUrl: string | undefined
  readonly createdAt: Date
  readonly expiresAt: Date | undefined
  /** To the minute. */
  readonly lastUsedAt: Date | undefined
  readonly revokedAt: Date | undefined
}

export type KeyLimits = Pick<ApiKey, 'requestsPerMinute' | 'maxInFlight' | 'imagesPerMonth'>

export interface NewKey extends Partial<KeyLimits> {
  readonly project: Project
  readonly name: string
  readonly scopes: readonly Scope[]
  readonly expiresAt?: Date | undefined
  /** One that requests may go to. */
  readonly webhookUrl?: string | undefined
}

export interface KeyPage {
  /** Newest first. */
  readonly data: readonly ApiKey[]
  /** Undefined on the last page. */
  readonly nextCursor: string | undefined
}

const defaultLimit = 20
const touchEveryMs = 60_000

export class Keys {
  readonly #database: Database

  constructor(database: Database) {
    this.#database = database
  }

  /**
   * @returns the new key, and its text, which nobody can be told again
   * @throws {AccessError} `invalid_key`
   */
  async create(wanted: NewKey): Promise<{ readonly key: ApiKey; readonly text: string }> {
    check(wanted)
    const { requestsPerMinute, maxInFlight, imagesPerMonth, webhookUrl, expiresAt } = wanted
    const text = newKeyText()
    const row = await this.#database.prisma.$transaction(async (transaction) => {
      const made = await transaction.apiKey.create({
        data: {
          id: `key_${randomBytes(12).toString('hex')}`,
          project: wanted.project,
          name: wanted.name.trim(),
          prefix: prefixOf(text),
          sha256: hashOf(text),
          scopes: scopes.filter((scope) => wanted.scopes.includes(scope)),
          requestsPerMinute: requestsPerMinute ?? null,
          maxInFlight: maxInFlight ?? null,
          imagesPerMonth: imagesPerMonth ?? null,
          webhookUrl: webhookUrl ?? null,
          expiresAt: expiresAt ?? null,
        },
      })
      await notify(transaction, keyChannel, made.id)
      return made
    })
    return { key: toKey(row), text }
  }

  /** @throws {AccessError} `invalid_cursor` */
  async list(
    whose: Whose,
    {
      cursor,
      limit = defaultLimit,
    }: { readonly cursor?: string | undefined; readonly limit?: number | undefined },
  ): Promise<KeyPage> {
    const rows = await this.#database.prisma.apiKey.findMany({
      where: { ...ownedBy(whose), ...(cursor !== undefined && { AND: beyond(cursor) }) },
      orderBy: [{ createdAt: 'desc' }, { id: 'desc' }],
      take: limit + 1,
    })
    const page = rows.slice(0, limit)
    const last = page.at(-1)
    return {
      data: page.map(toKey),
      nextCursor: last && rows.length > limit ? cursorOf(last) : undefined,
    }
  }

  /** @throws {AccessError} `key_not_found` */
  async get(whose: Whose, id: string): Promise<ApiKey> {
    const row = await this.#database.prisma.apiKey.findFirst({ where: { id, ...ownedBy(whose) } })
    if (!row) throw keyNotFound(id)
    return toKey(row)
  }

  /** @param url one that requests may go to; undefined: nobody is told @throws {AccessError} `key_not_found` */
  async tell(whose: Whose, id: string, url: string | undefined): Promise<ApiKey> {
    await this.#change({ id, ...ownedBy(whose) }, { webhookUrl: url ?? null })
    return this.get(whose, id)
  }

  /** For good. One that is revoked already stays as it is. @throws {AccessError} `key_not_found` */
  async revoke(whose: Whose, id: string): Promise<ApiKey> {
    await this.#change({ id, ...ownedBy(whose), revokedAt: null }, { revokedAt: new Date() })
    return this.get(whose, id)
  }

  /** Whether there is one or ever was. */
  async any(): Promise<boolean> {
    return (await this.#database.prisma.apiKey.findFirst({ select: { id: true } })) !== null
  }

  async findByHash(sha256: string): Promise<ApiKey | undefined> {
    const row = await this.#database.prisma.apiKey.findUnique({ where: { sha256 } })
    return row ? toKey(row) : undefined
  }

  /** Notes that a key is used, where that was not noted within a minute. */
  async touch(id: string): Promise<void> {
    const before = new Date(Date.now() - touchEveryMs)
    await this.#database.prisma.apiKey.updateMany({
      where: { id, OR: [{ lastUsedAt: null }, { lastUsedAt: { lt: before } }] },
      data: { lastUsedAt: new Date() },
    })
  }

  async #change(
    where: { id: string } & Prisma.ApiKeyWhereInput,
    data: Prisma.ApiKeyUpdateInput,
  ): Promise<void> {
    await this.#database.prisma.$transaction(async (transaction) => {
      await transaction.apiKey.updateMany({ where, data })
      await notify(transaction, keyChannel, where.id)
    })
  }
}

const keyNotFound = (id: string): AccessError =>
  new AccessError('key_not_found', `there is no key ${id}`, 'id')

/** @throws {AccessError} `invalid_key` */
function check({ name, scopes: wanted, expiresAt, ...limits }: NewKey): void {
  const refuse = (parameter: string, expected: string) => {
    throw new AccessError('invalid_key', `${parameter}: expected ${expected}`, parameter)
  }
  if (!/^(?=.*\S)[^\p{Cc}\p{Cs}]{1,200}$/u.test(name)) refuse('name', 'a name of 1 to 200 characters')
  if (wanted.length === 0) refuse('scopes', `at least one of ${scopes.join(', ')}`)
  if (expiresAt && !(expiresAt.getTime() > Date.now())) refuse('expires_at', 'a time to come')
  const own = {
    requests_per_minute: limits.requestsPerMinute,
    max_in_flight: limits.maxInFlight,
    images_per_month: limits.imagesPerMonth,
  }
  for (const [parameter, limit] of Object.entries(own)) {
    if (limit !== undefined && !(Number.isInteger(limit) && limit > 0 && limit <= mostOfAnything))
      refuse(parameter, `a whole number from 1 to ${mostOfAnything}`)
  }
}

const mostOfAnything = 1_000_000_000

function toKey(row: KeyRow): ApiKey {
  const { id, name, prefix, createdAt } = row
  return {
    id,
    project: row.project as Project,
    name,
    prefix,
    createdAt,
    scopes: row.scopes as Scope[],
    requestsPerMinute: row.requestsPerMinute ?? undefined,
    maxInFlight: row.maxInFlight ?? undefined,
    imagesPerMonth: row.imagesPerMonth ?? undefined,
    webhookUrl: row.webhookUrl ?? undefined,
    expiresAt: row.expiresAt ?? undefined,
    lastUsedAt: row.lastUsedAt ?? undefined,
    revokedAt: row.revokedAt ?? undefined,
  }
}

const cursorOf = ({ createdAt, id }: KeyRow): string =>
  Buffer.from(`${createdAt.getTime()} ${id}`).toString('base64url')

function beyond(cursor: string): Prisma.ApiKeyWhereInput[] {
  const [, time, id] = /^(\d{1,15}) (\w{1,64})$/.exec(Buffer.from(cursor, 'base64url').toString()) ?? []
  if (time === undefined || id === undefined)
    throw new AccessError('invalid_cursor', 'cursor: expected the next_cursor of an earlier page', 'cursor')
  const createdAt = new Date(Number(time))
  return [{ createdAt: { lte: createdAt } }, { OR: [{ createdAt: { lt: createdAt } }, { id: { lt: id } }] }]
}
