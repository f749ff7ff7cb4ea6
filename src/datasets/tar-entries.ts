/** The files of a tar archive, which is read once from its beginning to its end. */
import { once, on } from 'node:events'
import { Readable } from 'node:stream'
import { Parser, type ReadEntry } from 'tar'
import type { Entry } from './entries.ts'
import { DatasetError, messageOf } from './errors.ts'

/** Long names and the like; larger ones are skipped, and the file goes by its short name. */
const maxHeaderBytes = 64 * 1024

/**
 * @param source the archive, unpacked
 * @throws {DatasetError} `invalid_archive`, and what the source throws
 */
export async function* tarEntries(source: AsyncIterable<Buffer>): AsyncGenerator<Entry> {
  const parser = new Parser({ strict: true, maxMetaEntrySize: maxHeaderBytes, brotli: false })
  const skipped: ReadEntry[] = []
  parser.on('ignoredEntry', (entry: ReadEntry) => skipped.push(entry))
  const stop = new AbortController()
  const entries = on(parser, 'entry', { close: ['end'], signal: stop.signal })
  let current: ReadEntry | undefined
  const feeding = feed(source, parser, stop.signal).catch((error: unknown) => {
    current?.destroy(error)
    parser.emit('error', error)
  })
  try {
    for await (const [entry] of entries as AsyncIterable<[ReadEntry]>) {
      current = entry
      yield* skipped.splice(0).map(refuse)
      if (entry.type === 'File' || entry.type === 'OldFile' || entry.type === 'ContiguousFile') {
        const { path: name, size: sizeBytes } = entry
        yield { kind: 'file', name, sizeBytes, open: async () => Readable.from(entry) }
      } else if (entry.type !== 'Directory') yield refuse(entry)
      // What nobody has read lies before the next one.
      entry.resume()
    }
    yield* skipped.splice(0).map(refuse)
  } catch (error) {
    if (error instanceof DatasetError) throw error
    const message = `expected a tar archive, got a damaged one: ${messageOf(error)}`
    throw new DatasetError('invalid_archive', message, { cause: error })
  } finally {
    stop.abort()
    current?.resume()
    await feeding
  }
}

async function feed(source: AsyncIterable<Buffer>, parser: Parser, signal: AbortSignal): Promise<void> {
  for await (const chunk of source) {
    if (signal.aborted) return
    if (!parser.write(chunk)) await once(parser, 'drain', { signal }).catch(ignoreAbort)
  }
  parser.end()
}

function ignoreAbort(error: unknown): void {
  if (!(error instanceof Error && error.name === 'AbortError')) throw error
}

function refuse({ path, type, meta }: ReadEntry): Entry {
  const got = meta ? `a header of more than ${maxHeaderBytes} bytes` : `an entry of type ${type}`
  return { kind: 'refused', name: path, code: 'not_a_file', message: `expected a file, got ${got}` }
}
