/**
 * The files of a zip archive that lies on the disk. Only the central directory counts (APPNOTE.TXT 6.3.10, section 4.3.12); an archive
 * whose files share bytes (D. Fifield, "A better zip bomb", WOOT 2019) or whose sizes add up to too much is refused before any is opened.
 */
import { getFileNameLowLevel, openPromise, type Entry as ZipEntry, type ZipFile } from 'yauzl'
import type { Entry } from './entries.ts'
import { DatasetError, messageOf } from './errors.ts'
import { checkExpansion } from './expansion.ts'
import type { DatasetLimits } from './limits.ts'

const options = { decodeStrings: false, lazyEntries: true, validateEntrySizes: true }
const localHeaderBytes = 30

/** @throws {DatasetError} `invalid_archive`, `archive_bomb`, `too_large`, `too_many_files` */
export async function* zipEntries(file: string, limits: DatasetLimits): AsyncGenerator<Entry> {
  try {
    await refuseBombs(file, limits)
    const zip = await openPromise(file, { ...options, autoClose: false })
    try {
      for await (const entry of zip.eachEntry()) {
        const read = readEntry(zip, entry)
        if (read) yield read
      }
    } finally {
      zip.close()
    }
  } catch (error) {
    if (error instanceof DatasetError) throw error
    const message = `expected a zip archive, got a damaged one: ${messageOf(error)}`
    throw new DatasetError('invalid_archive', message, { cause: error })
  }
}

async function refuseBombs(file: string, limits: DatasetLimits): Promise<void> {
  const zip = await openPromise(file, { ...options, autoClose: true })
  if (zip.entryCount > limits.maxEntries) {
    zip.close()
    const message = `expected at most ${limits.maxEntries} files, got ${zip.entryCount}`
    throw new DatasetError('too_many_files', message)
  }
  const ranges: { start: number; end: number }[] = []
  let totalBytes = 0
  for await (const entry of zip.eachEntry()) {
    const start = entry.relativeOffsetOfLocalHeader
    ranges.push({ start, end: start + localHeaderBytes + entry.fileNameLength + entry.compressedSize })
    totalBytes += entry.uncompressedSize
    checkExpansion({ packedBytes: zip.fileSize, totalBytes }, limits)
  }
  ranges.sort((a, b) => a.start - b.start)
  if (ranges.some(({ end }, index) => end > (ranges[index + 1]?.start ?? Infinity)))
    throw new DatasetError(
      'archive_bomb',
      'expected files with bytes of their own, got some that share theirs',
    )
}

/** @returns undefined for a folder */
function readEntry(zip: ZipFile, entry: ZipEntry): Entry | undefined {
  const raw = entry.fileNameRaw
  const name = getFileNameLowLevel(entry.generalPurposeBitFlag, raw, entry.extraFields, true)
  const refused = (code: 'not_a_file' | 'damaged_file', got: string): Entry => ({
    kind: 'refused',
    name,
    code,
    message: `expected a file that can be read, got ${got}`,
  })
  const type = unixTypeOf(entry)
  if (type === 'folder' || name.endsWith('/')) return undefined
  if (type === 'other') return refused('not_a_file', 'a link or a device')
  if (entry.isEncrypted()) return refused('damaged_file', 'an encrypted one')
  if (!entry.canDecodeFileData())
    return refused('damaged_file', `one with compression method ${entry.compressionMethod}`)
  return {
    kind: 'file',
    name,
    sizeBytes: entry.uncompressedSize,
    async open() {
      const local = await zip.readLocalFileHeaderPromise(entry)
      // Readers differ in which of the two names they believe.
      if (!local.fileName.equals(raw)) throw new Error('its two names in the archive differ')
      return zip.openReadStreamPromise(entry)
    },
  }
}

/** Of archives made on Unix, which keep the mode in the upper half of the external attributes. */
function unixTypeOf({ versionMadeBy, externalFileAttributes }: ZipEntry): 'file' | 'folder' | 'other' {
  if (versionMadeBy >>> 8 !== 3) return 'file'
  switch ((externalFileAttributes >>> 16) & 0o170000) {
    case 0:
    case 0o100000:
      return 'file'
    case 0o040000:
      return 'folder'
    default:
      return 'other'
  }
}
