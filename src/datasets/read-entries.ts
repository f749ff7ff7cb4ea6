/**
 * Reads a dataset from its first file to its last and checks each on the way. Which caption belongs to which picture is known only at the
 * end, since an archive may have them in any order: then the pictures come, in the order of their paths.
 */
import { setImmediate as breathe } from 'node:timers/promises'
import type { Entry, FileEntry } from './entries.ts'
import { readBounded, TooManyBytes } from './entries.ts'
import { readEntryName, type EntryName } from './entry-name.ts'
import { DatasetError, reasonOf } from './errors.ts'
import { inMebibytes } from './expansion.ts'
import { join, type CheckedItem, type FoundPicture, type FoundRow, type LabelSource } from './join.ts'
import type { DatasetLimits } from './limits.ts'
import { CannotKeep, type PictureFiles, type TakenPicture } from './picture-files.ts'
import { checkPicture, expectedPicture, pictureExtensions, type PictureCheck } from './pictures.ts'
import { problem, shortenPath, type Problem, type ProblemCode } from './problems.ts'
import { metadataFormatOf, readMetadata, readSidecar, type MetadataFormat } from './texts.ts'

export interface ReadOptions {
  readonly files: PictureFiles
  readonly limits: DatasetLimits
  readonly labels: LabelSource
}

export type Reading =
  /** So far. */
  | { readonly kind: 'progress'; readonly files: number; readonly bytes: number }
  | { readonly kind: 'problem'; readonly problem: Problem }
  | { readonly kind: 'item'; readonly item: CheckedItem }

type NamedFile = EntryName & { kind: 'file' }

/** So many are decoded side by side, while the next is read. */
const decodedAtOnce = 2
/** What is held of a file or a row besides its texts, about. */
const heldBytesEach = 400
/** Small ones come by the ten thousand in one piece. */
const rowsAtOnce = 1000
const archiveExtensions = new Set(['zip', 'tar', 'gz', 'tgz', 'bz2', 'xz', 'zst', '7z', 'rar'])

/**
 * Problems come as they are found, items after the last file.
 * @throws {DatasetError} when the dataset as a whole is not usable: damaged, too large, without pictures
 */
export async function* readEntries(
  entries: AsyncIterable<Entry>,
  options: ReadOptions,
): AsyncGenerator<Reading, void, undefined> {
  const reader = new EntryReader(options)
  try {
    for await (const entry of entries) {
      for await (const found of reader.read(entry)) yield { kind: 'problem', problem: found }
      yield { kind: 'progress', files: reader.files, bytes: reader.bytes }
    }
    for (const found of await reader.finish()) yield { kind: 'problem', problem: found }
  } finally {
    await reader.settled()
  }
  const { items, problems } = await reader.join()
  for (const found of problems) yield { kind: 'problem', problem: found }
  if (items.length === 0) {
    const got = reader.files === 0 ? 'an empty dataset' : `none among ${reader.files} files`
    const message = `expected ${expectedPicture} at least once, got ${got}`
    throw new DatasetError('no_pictures', message)
  }
  for (const item of items) yield { kind: 'item', item }
}

class EntryReader {
  files = 0
  bytes = 0
  readonly #options: ReadOptions
  readonly #paths = new Set<string>()
  readonly #byHash = new Map<string, string>()
  readonly #pictures: FoundPicture[] = []
  readonly #leftOut = { paths: new Set<string>(), stems: new Set<string>() }
  readonly #rows: FoundRow[] = []
  readonly #sidecars: { path: string; stem: string; caption: string }[] = []
  readonly #sidecarProblems: { stem: string; problem: Problem }[] = []
  readonly #decoding: Promise<Problem[]>[] = []
  #heldBytes = 0
  #hasMetadata = false

  constructor(options: ReadOptions) {
    this.#options = options
  }

  /** Problems of this file, and of earlier ones whose decoding has ended. */
  async *read(entry: Entry): AsyncGenerator<Problem> {
    const { limits } = this.#options
    this.files += 1
    if (this.files > limits.maxEntries)
      throw new DatasetError('too_many_files', `expected at most ${limits.maxEntries} files, got more`)
    const name = readEntryName(entry.name, limits.maxPathLength)
    switch (name.kind) {
      case 'folder':
      case 'junk':
        return
      case 'unsafe':
        yield problem(entry.name, 'unsafe_path', `expected a plain relative name, got ${name.reason}`)
        return
      case 'file':
        break
    }
    this.#hold(name.path.length)
    if (entry.kind === 'refused') {
      yield this.#leaveOut(name, entry.code, entry.message)
      return
    }
    if (this.#paths.has(name.path)) {
      yield problem(name.path, 'duplicate_path', 'expected each name once, got this one again')
      return
    }
    this.#paths.add(name.path)
    yield* this.#readFile(entry, name)
    if (this.#decoding.length > decodedAtOnce) yield* (await this.#decoding.shift()) ?? []
  }

  async *#readFile(entry: FileEntry, name: NamedFile): AsyncGenerator<Problem> {
    const metadata = metadataFormatOf(name)
    try {
      if (metadata) yield* this.#readMetadata(entry, name, metadata)
      else if (name.extension === 'txt') await this.#readSidecar(entry, name)
      else if (pictureExtensions.has(name.extension)) yield* await this.#readPicture(entry, name)
      else yield refuseOther(name)
    } catch (error) {
      if (error instanceof DatasetError || error instanceof CannotKeep) throw error
      if (error instanceof TooManyBytes) yield this.#leaveOut(name, 'file_too_large', error.message)
      else {
        const message = `expected bytes that can be read, got none (${reasonOf(error)})`
        yield this.#leaveOut(name, 'damaged_file', message)
      }
    }
  }

  async #readPicture(entry: FileEntry, name: NamedFile): Promise<Problem[]> {
    const { files, limits } = this.#options
    if (entry.sizeBytes > limits.maxPictureBytes) {
      const message = `expected at most ${inMebibytes(limits.maxPictureBytes)}, got ${inMebibytes(entry.sizeBytes)}`
      return [this.#leaveOut(name, 'file_too_large', message)]
    }
    const taken = await files.take(entry, limits.maxPictureBytes)
    this.#count(taken.sizeBytes)
    const twin = this.#byHash.get(taken.sha256)
    if (twin !== undefined) {
      await files.drop(taken)
      return [
        this.#leaveOut(
          name,
          'duplicate_picture',
          `expected each picture once, got the bytes of ${twin} again`,
        ),
      ]
    }
    this.#byHash.set(taken.sha256, shortenPath(name.path))
    const decoding = this.#decode(taken, name)
    // Whoever awaits it later hears of a failure.
    decoding.catch(() => undefined)
    this.#decoding.push(decoding)
    return []
  }

  async #decode(taken: TakenPicture, name: NamedFile): Promise<Problem[]> {
    const { files, limits } = this.#options
    const check: PictureCheck = await checkPicture(taken.file, limits)
    switch (check.kind) {
      case 'refused':
        await files.drop(taken)
        return [this.#leaveOut(name, check.code, check.message)]
      case 'picture': {
        const { format, width, height } = check
        const { sha256, sizeBytes } = taken
        const { path, folder, stem } = name
        const file = await files.keep(taken, format)
        this.#pictures.push({ path, folder, stem, file, sha256, sizeBytes, format, width, height })
        return []
      }
    }
  }

  async #readSidecar(entry: FileEntry, { path, stem }: NamedFile): Promise<void> {
    const { limits } = this.#options
    const bytes = await readBounded(await entry.open(), limits.maxSidecarBytes)
    this.#count(bytes.length)
    const read = readSidecar(bytes, limits)
    if ('caption' in read) {
      this.#hold(read.caption.length)
      this.#sidecars.push({ path, stem, caption: read.caption })
    } else this.#sidecarProblems.push({ stem, problem: problem(path, read.code, read.message) })
  }

  async *#readMetadata(
    entry: FileEntry,
    { path, folder }: NamedFile,
    format: MetadataFormat,
  ): AsyncGenerator<Problem> {
    this.#hasMetadata = true
    this.#count(entry.sizeBytes)
    let rows = 0
    for await (const read of readMetadata(path, format, await entry.open(), this.#options.limits)) {
      rows += 1
      if (rows % rowsAtOnce === 0) await breathe()
      if (read.kind === 'problem') {
        // It is not held, and counts like one that is: reading without end is no better.
        this.#hold(0)
        yield read.problem
      } else {
        const { file, captions } = read.row
        this.#hold(captions.reduce((total, { length }) => total + length, file.length))
        this.#rows.push({ ...read.row, source: path, folder })
      }
    }
  }

  #leaveOut({ path, stem }: NamedFile, code: ProblemCode, message: string): Problem {
    this.#leftOut.paths.add(path)
    this.#leftOut.stems.add(stem)
    return problem(path, code, message)
  }

  #count(bytes: number): void {
    const { maxTotalBytes } = this.#options.limits
    this.bytes += bytes
    if (this.bytes <= maxTotalBytes) return
    throw new DatasetError('too_large', `expected at most ${inMebibytes(maxTotalBytes)} of files, got more`)
  }

  /** @param length of the texts of one file or row */
  #hold(length: number): void {
    const { maxHeldBytes } = this.#options.limits
    this.#heldBytes += heldBytesEach + length * 2
    if (this.#heldBytes <= maxHeldBytes) return
    const message = `expected at most ${inMebibytes(maxHeldBytes)} of names, captions and rows, got more`
    throw new DatasetError('too_large', message)
  }

  async finish(): Promise<Problem[]> {
    return (await Promise.all(this.#decoding)).flat()
  }

  /** Nothing works on a file any more. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#decoding)
  }

  async join() {
    const { labels, limits } = this.#options
    return join(
      {
        pictures: this.#pictures,
        leftOut: this.#leftOut,
        rows: this.#rows,
        sidecars: this.#sidecars,
        sidecarProblems: this.#sidecarProblems,
        hasMetadata: this.#hasMetadata,
      },
      labels,
      limits.maxPathLength,
    )
  }
}

function refuseOther({ path, extension }: NamedFile): Problem {
  const got = extension === '' ? 'a file without an extension' : `.${extension.slice(0, 20)}`
  return archiveExtensions.has(extension)
    ? problem(
        path,
        'nested_archive',
        `expected pictures and captions, got ${got}; archives within are not opened`,
      )
    : problem(path, 'unsupported_file', `expected ${expectedPicture}, a caption or metadata, got ${got}`)
}
