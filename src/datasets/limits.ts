/** What a dataset may be at most. Whoever sends one is trusted with none of it. */

const kibi = 1024
const mebi = 1024 * kibi

export interface DatasetLimits {
  /** Of an upload as it is sent, and of all that comes out of it. */
  readonly maxTotalBytes: number
  readonly maxEntries: number
  readonly maxPictureBytes: number
  /** Width times height, by the header, before anything is decoded. */
  readonly maxPixels: number
  /** Of one file of metadata. */
  readonly maxMetadataBytes: number
  /** Of one line or record in it. */
  readonly maxRowBytes: number
  /** Of a text file beside a picture. */
  readonly maxSidecarBytes: number
  /** Of one caption, in UTF-16 code units. */
  readonly maxCaptionLength: number
  readonly maxCaptionsPerPicture: number
  /** Of all names, texts and rows together: they are held in memory until it is known what belongs to which picture. */
  readonly maxHeldBytes: number
  /** Bytes that come out of an archive for each that it has; pictures hardly compress, so that honest ones stay far below. */
  readonly maxCompressionRatio: number
  /** Up to here any ratio will do. */
  readonly ratioFreeBytes: number
  /** Of the names in a dataset, in UTF-16 code units. */
  readonly maxPathLength: number
  /** Problems beyond so many are counted and not kept. */
  readonly maxListedProblems: number
}

export const defaultLimits: DatasetLimits = {
  maxTotalBytes: 20_480 * mebi,
  maxEntries: 250_000,
  maxPictureBytes: 128 * mebi,
  maxPixels: 8192 * 8192,
  maxMetadataBytes: 128 * mebi,
  maxRowBytes: 256 * kibi,
  maxSidecarBytes: 64 * kibi,
  maxCaptionLength: 10_000,
  maxCaptionsPerPicture: 64,
  maxHeldBytes: 512 * mebi,
  maxCompressionRatio: 200,
  ratioFreeBytes: 64 * mebi,
  maxPathLength: 1024,
  maxListedProblems: 10_000,
}
