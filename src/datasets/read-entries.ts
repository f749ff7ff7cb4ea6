/**
 * Reads a dataset from its first file to its last and checks each on the way. Which caption belongs to which picture is known only at the
 * end, since an archive may have them in any order: then the pictures come, in the order of their paths.
 */
import type { Entry, FileEntry } from './entries.ts'
import { readBounded, TooManyBytes } from './entries.ts'
import { readEntryName, type EntryName } from './entry-name.ts'
import { DatasetError, messageOf } from './errors.ts'
import { inMebibytes } from './expansion.ts'
import { join, type CheckedItem, type FoundPicture, type FoundRow, type LabelSource } from './join.ts'
import type { DatasetLimits } from './limits.ts'
import type { PictureFiles, TakenPicture } from './picture-files.ts'
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
      for (const found of await reader.read(entry)) yield { kind: 'problem', problem: found }
      yield { kind: 'progress', files: reader.files, bytes: reader.bytes }
    }
    for (const found of await reader.finish()) yield { kind: 'problem', problem: found }
  } finally {
    await reader.settled()
  }
  const { items, problems } = reader.join()
  for (const found of problems) yield { kind: 'problem', problem: found }
  if (items.length === 0) {
    const message = `expected ${expectedPicture} at least once, got none among ${reader.files} files`
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
  #textBytes = 0
  #hasMetadata = false

  constructor(options: ReadOptions) {
    this.#options = options
  }

  /** @returns problems of this file, or of earlier ones whose decoding has ended */
  async read(entry: Entry): Promise<Problem[]> {
    const { limits } = this.#options
    this.files += 1
    if (this.files > limits.maxEntries)
      throw new DatasetError('too_many_files', `expected at most ${limits.maxEntries} files, got more`)
    const name = readEntryName(entry.name, limits.maxPathLength)
    switch (name.kind) {
      case 'folder':
      case 'junk':
        return []
      case 'unsafe':
        return [problem(entry.name, 'unsafe_path', `expected a plain relative name, got ${name.reason}`)]
      case 'file':
        break
    }
    if (entry.kind === 'refused') return [this.#leaveOut(name, entry.code, entry.message)]
    if (this.#paths.has(name.path))
      return [problem(name.path, 'duplicate_path', 'expected each name once, got this one again')]
    this.#paths.add(name.path)
    return this.#readFile(entry, name)
  }

  async #readFile(entry: FileEntry, name: NamedFile): Promise<Problem[]> {
    const { path, extension } = name
    try {
      const metadata = metadataFormatOf(name)
      if (metadata) return await this.#readMetadata(entry, name, metadata)
      if (extension === 'txt') return await this.#readSidecar(entry, name)
      if (pictureExtensions.has(extension)) return await this.#readPicture(entry, name)
    } catch (error) {
      if (error instanceof DatasetError) throw error
      if (error instanceof TooManyBytes) return [this.#leaveOut(name, 'file_too_large', error.message)]
      const message = `expected bytes that can be read, got none (${messageOf(error)})`
      return [this.#leaveOut(name, 'damaged_file', message)]
    }
    const got = extension === '' ? 'a file without an extension' : `.${extension.slice(0, 20)}`
    return archiveExtensions.has(extension)
      ? [
          problem(
            path,
            'nested_archive',
            `expected pictures and captions, got ${got}; archives within are not opened`,
          ),
        ]
      : [problem(path, 'unsupported_file', `expected ${expectedPicture}, a caption or metadata, got ${got}`)]
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
    return this.#decoding.length > decodedAtOnce ? ((await this.#decoding.shift()) ?? []) : []
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

  async #readSidecar(entry: FileEntry, { path, stem }: NamedFile): Promise<Problem[]> {
    const { limits } = this.#options
    const bytes = await readBounded(await entry.open(), limits.maxSidecarBytes)
    this.#count(bytes.length)
    const read = readSidecar(bytes, limits)
    if ('caption' in read) {
      this.#countText(read.caption.length)
      this.#sidecars.push({ path, stem, caption: read.caption })
    } else this.#sidecarProblems.push({ stem, problem: problem(path, read.code, read.message) })
    return []
  }

  async #readMetadata(
    entry: FileEntry,
    { path, folder }: NamedFile,
    format: MetadataFormat,
  ): Promise<Problem[]> {
    const problems: Problem[] = []
    this.#hasMetadata = true
    this.#count(entry.sizeBytes)
    for await (const read of readMetadata(path, format, await entry.open(), this.#options.limits)) {
      if (read.kind === 'problem') problems.push(read.problem)
      else {
        const { file, captions } = read.row
        this.#countText(captions.reduce((total, { length }) => total + length, file.length))
        this.#rows.push({ ...read.row, source: path, folder })
      }
    }
    return problems
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

  #countText(length: number): void {
    const { maxTextBytes } = this.#options.limits
    this.#textBytes += length * 2
    if (this.#textBytes <= maxTextBytes) return
    throw new DatasetError('too_large', `expected at most ${inMebibytes(maxTextBytes)} of captions, got more`)
  }

  async finish(): Promise<Problem[]> {
    return (await Promise.all(this.#decoding)).flat()
  }

  /** Nothing works on a file any more. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#decoding)
  }

  join() {
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
