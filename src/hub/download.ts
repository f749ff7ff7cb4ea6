/** One file of a hub, whole and verified or not at all: what a broken connection or a killed process leaves is gone on with. */
import { createHash, type Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, open, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { HubError } from './errors.ts'
import { reasonOf, refusal, type RemoteFile, type Repository } from './repository.ts'

export interface DownloadOptions {
  readonly repository: Repository
  readonly commit: string
  /** Where its path begins. */
  readonly folder: string
  readonly signal?: AbortSignal | undefined
  /** Called as bytes are there, those of earlier tries first. */
  readonly onBytes?: ((bytes: number) => void) | undefined
  /** Before the first repeated try; it doubles with each. */
  readonly retryMs?: number | undefined
}

/** Tries in a row that bring nothing new. */
const mostFruitlessTries = 5

/** @throws {HubError} when it cannot be had, or is not what the hub said that it is */
export async function download(file: RemoteFile, options: DownloadOptions): Promise<void> {
  const { folder, onBytes } = options
  const target = join(folder, file.path)
  await mkdir(dirname(target), { recursive: true })
  if (await isWhole(target, file)) return onBytes?.(file.sizeBytes)
  // What was begun of other bytes under the same name is another file.
  const part = `${target}.${file.checksum.hex.slice(0, 16)}.part`
  const hadBytes = await sizeOf(part)
  await fetchRest(part, file, options)
  let hex = await digest(part, file)
  if (hex !== file.checksum.hex && hadBytes > 0) {
    onBytes?.(-file.sizeBytes)
    await rm(part)
    await fetchRest(part, file, options)
    hex = await digest(part, file)
  }
  if (hex !== file.checksum.hex) {
    await rm(part)
    throw new HubError(
      `${file.path}: expected the ${file.checksum.kind} checksum ${file.checksum.hex}, got ${hex}; it was thrown away`,
    )
  }
  await rename(part, target)
}

/** Brings what is missing behind what there is. */
async function fetchRest(part: string, file: RemoteFile, options: DownloadOptions): Promise<void> {
  const { signal, onBytes, retryMs = 1_000 } = options
  let fruitless = 0
  let hasBytes = Math.min(await sizeOf(part), file.sizeBytes)
  onBytes?.(hasBytes)
  while (hasBytes < file.sizeBytes || !(await isThere(part))) {
    signal?.throwIfAborted()
    const hadBytes = hasBytes
    try {
      for await (const bytes of appended(part, hasBytes, file, options)) {
        hasBytes += bytes
        onBytes?.(bytes)
      }
      if (hasBytes === file.sizeBytes) return
      throw new Error(`the connection ended after ${hasBytes} of ${file.sizeBytes} bytes`)
    } catch (error) {
      signal?.throwIfAborted()
      if (error instanceof HubError) throw error
      fruitless = hasBytes > hadBytes ? 0 : fruitless + 1
      if (fruitless === mostFruitlessTries) {
        const message = `${file.path}: expected ${file.sizeBytes} bytes, got ${hasBytes}: ${reasonOf(error)}; the same command goes on from there`
        throw new HubError(message, { cause: error })
      }
      await sleep(retryMs * 2 ** fruitless, undefined, { signal })
    }
  }
}

/** Asks for the bytes from `from` on and writes them there. Yields how many came with each piece, once they are written. */
async function* appended(
  part: string,
  from: number,
  { path, sizeBytes }: RemoteFile,
  { repository, commit, signal = new AbortController().signal }: DownloadOptions,
): AsyncGenerator<number> {
  const { endpoint, name, accessToken } = repository
  const address = `${endpoint}/${name}/resolve/${commit}/${path.split('/').map(encodeURIComponent).join('/')}`
  const answer = await fetch(address, {
    signal,
    headers: {
      'accept-encoding': 'identity',
      ...(from > 0 && { range: `bytes=${from}-` }),
      ...(accessToken !== undefined && { authorization: `Bearer ${accessToken}` }),
    },
  })
  if (answer.status >= 500 || answer.status === 429) throw new Error(`the hub answered with ${answer.status}`)
  if (!answer.ok) throw refusal(repository, answer.status)
  // Who does not know ranges sends everything.
  const at = answer.status === 206 ? rangeStart(answer) : 0
  if (at !== from && at !== 0)
    throw new HubError(`${path}: expected the bytes from ${from} on, got those from ${at}`)
  const handle = await open(part, from > 0 ? 'r+' : 'w')
  try {
    let position = at
    for await (const piece of answer.body ?? []) {
      if (position + piece.length > sizeBytes)
        throw new HubError(`${path}: expected ${sizeBytes} bytes, and more are coming`)
      await handle.write(piece, 0, piece.length, position)
      const newBytes = Math.max(0, position + piece.length - Math.max(position, from))
      position += piece.length
      if (newBytes > 0) yield newBytes
    }
    await handle.sync()
  } finally {
    await handle.close()
  }
}

const rangeStart = ({ headers }: Response): number =>
  Number(/^bytes (\d+)-/.exec(headers.get('content-range') ?? '')?.[1] ?? NaN)

async function isWhole(path: string, file: RemoteFile): Promise<boolean> {
  return (await sizeOf(path)) === file.sizeBytes && (await isThere(path))
    ? (await digest(path, file)) === file.checksum.hex
    : false
}

async function digest(path: string, { sizeBytes, checksum }: RemoteFile): Promise<string> {
  const hash = hashFor(checksum.kind, sizeBytes)
  for await (const piece of createReadStream(path)) hash.update(piece as Buffer)
  return hash.digest('hex')
}

/** Git hashes a blob with its kind and size in front. */
function hashFor(kind: RemoteFile['checksum']['kind'], sizeBytes: number): Hash {
  switch (kind) {
    case 'sha256':
      return createHash('sha256')
    case 'git blob':
      return createHash('sha1').update(`blob ${sizeBytes}\0`)
  }
}

const isThere = async (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  )
/** 0 for one that is not there. */
const sizeOf = async (path: string): Promise<number> =>
  stat(path).then(
    ({ size }) => size,
    () => 0,
  )
