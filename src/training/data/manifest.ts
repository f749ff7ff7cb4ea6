/** A job's snapshot of its dataset: JSON Lines of `TrainingItem`, in the order that the sampler draws from. */
import { randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, rename, rm } from 'node:fs/promises'
import { isAbsolute } from 'node:path'
import type { TrainingItem } from '../job.ts'
import { reasonOf, TrainingDataError } from './errors.ts'

/**
 * Streams a manifest, every line checked.
 * @throws {TrainingDataError} naming file, line, field, what was expected and what came
 */
export async function* readManifest(file: string): AsyncGenerator<TrainingItem> {
  const ids = new Set<string>()
  let number = 0
  for await (const line of lines(file)) {
    number += 1
    if (line.trim() === '') continue
    const where = `${file}, line ${number}`
    const item = parseItem(line, where)
    if (ids.has(item.id)) throw new TrainingDataError(`${where}: id: ${item.id} is there already`)
    ids.add(item.id)
    yield item
  }
}

/**
 * Writes a manifest whole or not at all.
 * @returns how many items it has
 */
export async function writeManifest(
  file: string,
  items: AsyncIterable<TrainingItem> | Iterable<TrainingItem>,
): Promise<number> {
  const temporary = `${file}.${randomBytes(8).toString('hex')}.tmp`
  try {
    const handle = await open(temporary, 'wx')
    let count = 0
    try {
      let pending = ''
      for await (const item of items) {
        count += 1
        pending += `${JSON.stringify(item)}\n`
        if (pending.length < pieceCharacters) continue
        await handle.write(pending)
        pending = ''
      }
      await handle.write(pending)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(temporary, file)
    return count
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}

const pieceCharacters = 2 ** 16

/** Split at line feeds alone: readline also splits at U+2028 and U+2029, which JSON has unescaped in its strings. */
async function* lines(file: string): AsyncGenerator<string> {
  let rest = ''
  try {
    for await (const piece of createReadStream(file, { encoding: 'utf8' })) {
      const parts = (rest + String(piece)).split('\n')
      rest = parts.pop()!
      yield* parts
    }
  } catch (cause) {
    throw new TrainingDataError(`${file}: expected a readable manifest: ${reasonOf(cause)}`, { cause })
  }
  if (rest !== '') yield rest
}

interface Field {
  readonly expected: string
  readonly holds: (value: unknown) => boolean
}

const isText = (value: unknown): value is string => typeof value === 'string'
const isSide = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) > 0
const optional = ({ expected, holds }: Field): Field => ({
  expected: `${expected}, or nothing`,
  holds: (value) => value === undefined || holds(value),
})
const side: Field = { expected: 'a whole number from 1 on', holds: isSide }

const fields: Readonly<Record<keyof TrainingItem, Field>> = {
  id: { expected: 'a text that is not empty', holds: (value) => isText(value) && value !== '' },
  file: { expected: 'an absolute path', holds: (value) => isText(value) && isAbsolute(value) },
  sha256: {
    expected: '64 hexadecimal digits',
    holds: (value) => isText(value) && /^[0-9a-f]{64}$/.test(value),
  },
  width: side,
  height: side,
  captions: { expected: 'a list of texts', holds: (value) => Array.isArray(value) && value.every(isText) },
  label: optional({ expected: 'a text', holds: isText }),
  aestheticScore: optional({ expected: 'a finite number', holds: Number.isFinite }),
}

function parseItem(line: string, where: string): TrainingItem {
  let json: unknown
  try {
    json = JSON.parse(line)
  } catch (cause) {
    throw new TrainingDataError(`${where}: expected JSON: ${reasonOf(cause)}`, { cause })
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new TrainingDataError(`${where}: expected an object, got ${shown(json)}`)
  }
  const values = new Map(Object.entries(json))
  for (const [name, { expected, holds }] of Object.entries(fields)) {
    const value: unknown = values.get(name)
    if (!holds(value))
      throw new TrainingDataError(`${where}: ${name}: expected ${expected}, got ${shown(value)}`)
    values.delete(name)
  }
  const [unknown] = values.keys()
  if (unknown !== undefined) throw new TrainingDataError(`${where}: ${unknown}: there is no such field`)
  return json as TrainingItem
}

const longestShown = 80

function shown(value: unknown): string {
  const text = value === undefined ? 'nothing' : JSON.stringify(value)
  return text.length > longestShown ? `${text.slice(0, longestShown)}…` : text
}
