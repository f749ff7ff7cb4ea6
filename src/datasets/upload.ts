/** An upload on its way to the disk: counted, bounded, and known for an archive by its first bytes. */
import { createWriteStream } from 'node:fs'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { archiveHeadBytes, expectArchive } from './archive.ts'
import { DatasetError } from './errors.ts'
import { inMebibytes } from './expansion.ts'
import type { DatasetLimits } from './limits.ts'

interface UploadOptions {
  readonly limits: Pick<DatasetLimits, 'maxTotalBytes'>
  readonly signal: AbortSignal
  /** Told after every piece how many bytes there are. */
  readonly onBytes: (bytes: number) => void
}

/**
 * @returns how many bytes came
 * @throws {DatasetError} `unknown_archive` and `too_large` as soon as that is known; what the stream runs into; the signal's reason
 */
export async function receiveUpload(
  stream: Readable,
  file: string,
  { limits, signal, onBytes }: UploadOptions,
): Promise<number> {
  let bytes = 0
  const checked = async function* (chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    let head = Buffer.alloc(0)
    for await (const chunk of chunks) {
      bytes += chunk.length
      checkUploadSize(bytes, limits)
      if (head.length < archiveHeadBytes) {
        head = Buffer.concat([head, chunk.subarray(0, archiveHeadBytes)])
        if (head.length >= archiveHeadBytes) expectArchive(head)
      }
      yield chunk
      onBytes(bytes)
    }
    expectArchive(head)
  }
  const sink = createWriteStream(file, { flags: 'wx', mode: 0o600, flush: true })
  await pipeline(stream, checked, sink, { signal })
  return bytes
}

/** @throws {DatasetError} `too_large` */
export function checkUploadSize(
  bytes: number,
  { maxTotalBytes }: Pick<DatasetLimits, 'maxTotalBytes'>,
): void {
  if (bytes <= maxTotalBytes) return
  throw new DatasetError('too_large', `expected at most ${inMebibytes(maxTotalBytes)}, got more`)
}
