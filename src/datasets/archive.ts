/** Archives by what their bytes are, whatever they are called. */
import { createReadStream } from 'node:fs'
import { open } from 'node:fs/promises'
import { pipeline } from 'node:stream'
import { createGunzip } from 'node:zlib'
import type { Entry } from './entries.ts'
import { DatasetError } from './errors.ts'
import { checkExpansion } from './expansion.ts'
import type { DatasetLimits } from './limits.ts'
import { tarEntries } from './tar-entries.ts'
import { zipEntries } from './zip-entries.ts'

export type ArchiveKind = 'zip' | 'tar' | 'tar.gz'

/** How many bytes `archiveKindOf` looks at. */
export const archiveHeadBytes = 512

/** @param head the first bytes @returns undefined for what is none that is read here */
export function archiveKindOf(head: Buffer): ArchiveKind | undefined {
  if (head.length >= 4 && ['504b0304', '504b0506'].includes(head.toString('hex', 0, 4))) return 'zip'
  if (isGzip(head)) return 'tar.gz'
  return isTarHeader(head) ? 'tar' : undefined
}

const isGzip = (head: Buffer): boolean => head.length >= 3 && head.toString('hex', 0, 3) === '1f8b08'

/** A header's checksum is the sum of its bytes with its own eight taken as spaces (POSIX.1-2017, pax, ustar). */
function isTarHeader(head: Buffer): boolean {
  if (head.length < archiveHeadBytes) return false
  const stated = Number.parseInt(head.toString('latin1', 148, 156).trim(), 8)
  const sum = head
    .subarray(0, archiveHeadBytes)
    .reduce((total, byte, at) => total + (at >= 148 && at < 156 ? 32 : byte), 0)
  // An archive of nothing begins with a block of zeros.
  return stated === sum || head.subarray(0, archiveHeadBytes).every((byte) => byte === 0)
}

/** @throws {DatasetError} `unknown_archive` */
export function expectArchive(head: Buffer): ArchiveKind {
  const kind = archiveKindOf(head)
  if (kind !== undefined) return kind
  const got = head.length === 0 ? 'nothing' : 'bytes that are none of these'
  throw new DatasetError('unknown_archive', `expected a zip, tar or tar.gz archive, got ${got}`)
}

/** @throws {DatasetError} when it is no archive, damaged, or out of all proportion */
export async function* archiveEntries(file: string, limits: DatasetLimits): AsyncGenerator<Entry> {
  const kind = expectArchive(await headOf(file))
  switch (kind) {
    case 'zip':
      return yield* zipEntries(file, limits)
    case 'tar':
      return yield* tarEntries(createReadStream(file))
    case 'tar.gz':
      return yield* tarEntries(gunzipped(file, limits))
  }
}

async function headOf(file: string): Promise<Buffer> {
  const handle = await open(file, 'r')
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(archiveHeadBytes), 0, archiveHeadBytes, 0)
    return buffer.subarray(0, bytesRead)
  } finally {
    await handle.close()
  }
}

async function* gunzipped(file: string, limits: DatasetLimits): AsyncGenerator<Buffer> {
  const packed = createReadStream(file)
  const unpacked = createGunzip()
  // The iteration below throws what either stream runs into.
  pipeline(packed, unpacked, () => undefined)
  let totalBytes = 0
  let head = Buffer.alloc(0)
  for await (const chunk of unpacked as AsyncIterable<Buffer>) {
    totalBytes += chunk.length
    checkExpansion({ packedBytes: packed.bytesRead, totalBytes }, limits)
    if (head.length < archiveHeadBytes) {
      head = Buffer.concat([head, chunk])
      if (head.length < archiveHeadBytes) continue
      // The tar reader would unpack what is packed twice, and nobody would count.
      if (!isTarHeader(head)) break
      yield head
    } else yield chunk
  }
  if (isTarHeader(head)) return
  throw new DatasetError('invalid_archive', 'expected a tar archive within gzip, got something else')
}
