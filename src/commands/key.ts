/**
 * `atelier key create | list | webhook | revoke`. Where a server holds the embedded database, it is asked over its control socket;
 * else the command opens the database itself, as it does one that is shared.
 */
import { Keys, type ApiKey } from '../access/keys.ts'
import { everyProject, readProject } from '../access/project.ts'
import { isScope, scopes } from '../access/scopes.ts'
import type { Config } from '../config.ts'
import { parseAllowed } from '../outbound/addresses.ts'
import { OutboundError } from '../outbound/errors.ts'
import { checkTarget } from '../outbound/post.ts'
import { callControl, type ControlHandlers } from '../storage/control.ts'
import { openEmbeddedDatabase } from '../storage/database.ts'
import { openServerDatabase } from '../storage/server-database.ts'

export interface CreateKeyOptions {
  readonly name: string
  readonly project: string
  /** Separated by commas. */
  readonly scopes: string
  readonly expiresInDays?: number
  readonly requestsPerMinute?: number
  readonly maxInFlight?: number
  readonly imagesPerMonth?: number
  readonly webhook?: string
  readonly json?: true
}

/** A key as JSON has it: times are texts. */
type KeyAsJson = Omit<ApiKey, TimeOfKey> & { readonly [T in TimeOfKey]: string | undefined }
type TimeOfKey = 'createdAt' | 'expiresAt' | 'lastUsedAt' | 'revokedAt'

interface Answers {
  'key create': { readonly key: KeyAsJson; readonly text: string }
  'key list': readonly KeyAsJson[]
  'key webhook': KeyAsJson
  'key revoke': KeyAsJson
}

/** What a running server does for these commands. */
export function keyHandlers(keys: Keys) {
  return {
    'key create': (args: unknown) => create(keys, args as CreateKeyOptions),
    'key list': () => listAll(keys),
    'key webhook': (args: unknown) => {
      const { id, url } = args as { id: string; url?: string }
      return keys.tell(everyProject, id, url)
    },
    'key revoke': (args: unknown) => keys.revoke(everyProject, (args as { id: string }).id),
  } satisfies ControlHandlers & Record<keyof Answers, unknown>
}

async function create(keys: Keys, { expiresInDays, ...options }: CreateKeyOptions) {
  const project = readProject(options.project)
  if (!project)
    throw new Error(
      `--project: expected small letters, digits, "-" and "_", 63 at most, got ${JSON.stringify(options.project)}`,
    )
  const wanted = options.scopes.split(',').map((scope) => scope.trim())
  const unknown = wanted.find((scope) => !isScope(scope))
  if (unknown !== undefined)
    throw new Error(`--scopes: expected ${scopes.join(', ')}, got ${JSON.stringify(unknown)}`)
  const { name, requestsPerMinute, maxInFlight, imagesPerMonth, webhook: webhookUrl } = options
  return keys.create({
    project,
    name,
    scopes: wanted.filter(isScope),
    expiresAt: expiresInDays === undefined ? undefined : new Date(Date.now() + expiresInDays * 86_400_000),
    requestsPerMinute,
    maxInFlight,
    imagesPerMonth,
    webhookUrl,
  })
}

async function listAll(keys: Keys): Promise<ApiKey[]> {
  const all: ApiKey[] = []
  for (let cursor: string | undefined; ;) {
    const page = await keys.list(everyProject, { cursor, limit: 100 })
    all.push(...page.data)
    if (page.nextCursor === undefined) return all
    cursor = page.nextCursor
  }
}

async function ask<C extends keyof Answers>(
  { dataDir, databaseUrl }: Config,
  command: C,
  args: object,
): Promise<Answers[C]> {
  const isShared = databaseUrl !== ''
  const answer = isShared ? undefined : await callControl(dataDir, command, args)
  if (answer?.state === 'answered') return answer.result as Answers[C]
  const onError = (error: Error) => console.error(error.message)
  const database = isShared
    ? await openServerDatabase({ url: databaseUrl, onError })
    : await openEmbeddedDatabase(dataDir)
  try {
    const result = await keyHandlers(new Keys(database))[command](args)
    return JSON.parse(JSON.stringify(result)) as Answers[C]
  } finally {
    await database.close()
  }
}

/** Prints the key alone on standard output, so that a script can take it, and on standard error what to know of it. */
export async function keyCreate(config: Config, options: CreateKeyOptions): Promise<void> {
  if (options.webhook !== undefined) checkWebhook(config, '--webhook', options.webhook)
  const { key, text } = await ask(config, 'key create', options)
  if (options.json) {
    console.log(JSON.stringify({ ...key, key: text }, null, 2))
    return
  }
  console.log(text)
  const ends = key.expiresAt === undefined ? 'does not expire' : `expires ${key.expiresAt}`
  console.error(
    `${key.id} of the project ${key.project}, for ${key.scopes.join(', ')}, ${ends}. Keep it: it is not shown again.`,
  )
}

export async function keyList(config: Config, { json }: { readonly json?: true }): Promise<void> {
  const keys = await ask(config, 'key list', {})
  if (json) {
    console.log(JSON.stringify(keys, null, 2))
    return
  }
  const rows = keys.map((key) => [
    key.id,
    `${key.prefix}…`,
    key.project,
    key.scopes.join(','),
    stateOf(key),
    key.lastUsedAt === undefined ? 'never used' : `used ${key.lastUsedAt}`,
    key.name,
  ])
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? []
  for (const row of rows) {
    const cells = row.map((cell, column) => cell.padEnd(widths[column] ?? 0))
    console.log(cells.join('  ').trimEnd())
  }
  if (rows.length === 0) console.error('there are no keys; make one with "atelier key create --name NAME"')
}

/** @param url undefined: nobody is told any more */
export async function keyWebhook(config: Config, id: string, url: string | undefined): Promise<void> {
  if (url !== undefined) checkWebhook(config, 'url', url)
  const { name, webhookUrl } = await ask(config, 'key webhook', { id, url })
  const told = webhookUrl === undefined ? 'nobody is told' : `${webhookUrl} is told`
  console.log(`${told} of the ends of generations of ${id} (${name})`)
}

function checkWebhook({ outboundAllow }: Config, parameter: string, url: string): void {
  try {
    checkTarget(
      url,
      outboundAllow.flatMap((item) => parseAllowed(item) ?? []),
    )
  } catch (error) {
    if (!(error instanceof OutboundError)) throw error
    throw new Error(`${parameter}: ${error.message}`, { cause: error })
  }
}

export async function keyRevoke(config: Config, id: string): Promise<void> {
  const key = await ask(config, 'key revoke', { id })
  console.log(`${key.id} (${key.name}) is revoked`)
}

function stateOf({ revokedAt, expiresAt }: KeyAsJson): string {
  if (revokedAt !== undefined) return 'revoked'
  if (expiresAt === undefined) return 'valid'
  return new Date(expiresAt).getTime() <= Date.now() ? 'expired' : `until ${expiresAt}`
}
