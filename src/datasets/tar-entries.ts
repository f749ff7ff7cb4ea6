/** The files of a tar archive, which is read once from its beginning to its end, no faster than its files are. */
import { Readable } from 'node:stream'
import { Parser, type ReadEntry } from 'tar'
import type { Entry } from './entries.ts'
import { DatasetError, messageOf } from './errors.ts'

/** Long names and the like; larger ones are skipped, and the file goes by its short name. */
const maxHeaderBytes = 64 * 1024

/**
 * @param source the archive, unpacked
 * @throws {DatasetError} `invalid_archive`, and what the source throws of that kind
 */
export async function* tarEntries(source: AsyncIterable<Buffer>): AsyncGenerator<Entry> {
  const archive = new TarReader(source)
  try {
    for (let found = await archive.next(); found; found = await archive.next()) {
      const { entry, body } = found
      const { path: name, size: sizeBytes } = entry
      if (isPlainFile(entry)) yield { kind: 'file', name, sizeBytes, open: async () => Readable.from(body()) }
      else if (entry.type !== 'Directory') yield refuse(entry)
      // What nobody has read lies before the next one.
      for await (const _skipped of body());
    }
  } catch (error) {
    if (error instanceof DatasetError) throw error
    const message = `expected a tar archive, got a damaged one: ${messageOf(error)}`
    throw new DatasetError('invalid_archive', message, { cause: error })
  } finally {
    await archive.close()
  }
}

interface FoundEntry {
  readonly entry: ReadEntry
  /** What of it was not read yet. */
  readonly body: () => AsyncGenerator<Buffer>
}

/** The parser emits within `write`; here it is given a piece only when somebody wants more of what it emits. */
class TarReader {
  readonly #chunks: AsyncIterator<Buffer>
  readonly #parser = new Parser({ maxMetaEntrySize: maxHeaderBytes, brotli: false, zstd: false })
  readonly #found: ReadEntry[] = []
  #failure: unknown
  /** An archive of nothing, which the parser takes for damage. */
  #hasOnlyZeros = true

  constructor(source: AsyncIterable<Buffer>) {
    this.#chunks = source[Symbol.asyncIterator]()
    this.#parser.on('entry', (entry: ReadEntry) => this.#found.push(entry))
    // Of types that nobody knows, or larger than a header may be.
    this.#parser.on('ignoredEntry', (entry: ReadEntry) => this.#found.push(entry))
    // Damage can be anywhere behind the first sign of it, so that nothing after it is believed.
    this.#parser.on('warn', (_code: string, message: unknown) => (this.#failure ??= message))
    this.#parser.on('error', (error: unknown) => (this.#failure ??= error))
  }

  async next(): Promise<FoundEntry | undefined> {
    let isMore = true
    while (this.#found.length === 0 && isMore) isMore = await this.#pump()
    const entry = this.#found.shift()
    return entry && { entry, body: this.#bodyOf(entry) }
  }

  async close(): Promise<void> {
    await this.#chunks.return?.()
  }

  #bodyOf(entry: ReadEntry): () => AsyncGenerator<Buffer> {
    const pieces: Buffer[] = []
    let hasEnded = entry.ignore
    const listen = () => {
      entry.on('end', () => (hasEnded = true))
      entry.on('data', (piece: Buffer) => pieces.push(piece))
    }
    let isListening = hasEnded
    return async function* (this: TarReader) {
      if (!isListening) listen()
      isListening = true
      for (;;) {
        for (let piece = pieces.shift(); piece; piece = pieces.shift()) yield piece
        if (hasEnded) return
        await this.#pump()
      }
    }.bind(this)
  }

  /** @returns whether there is more @throws what was wrong, once and for all */
  async #pump(): Promise<boolean> {
    if (this.#failure !== undefined) throw asError(this.#failure)
    try {
      const { done, value } = await this.#chunks.next()
      if (done !== true) {
        this.#hasOnlyZeros &&= value.every((byte) => byte === 0)
        this.#parser.write(value)
      } else if (!this.#hasOnlyZeros) this.#parser.end()
      if (this.#failure !== undefined) throw asError(this.#failure)
      return done !== true
    } catch (error) {
      this.#failure ??= error
      throw error
    }
  }
}

const asError = (failure: unknown): Error =>
  failure instanceof Error ? failure : new Error(typeof failure === 'string' ? failure : 'unknown')

const isPlainFile = ({ type, ignore }: ReadEntry): boolean =>
  !ignore && (type === 'File' || type === 'OldFile' || type === 'ContiguousFile')

function refuse({ path, type, meta }: ReadEntry): Entry {
  const got = meta ? `a header of more than ${maxHeaderBytes} bytes` : `an entry of type ${type}`
  return { kind: 'refused', name: path, code: 'not_a_file', message: `expected a file, got ${got}` }
}
