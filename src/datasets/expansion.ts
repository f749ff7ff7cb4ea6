/** When what comes out of an archive is out of proportion to the archive. */
import { DatasetError } from './errors.ts'
import type { DatasetLimits } from './limits.ts'

/** @throws {DatasetError} `archive_bomb` or `too_large` */
export function checkExpansion(
  { packedBytes, totalBytes }: { packedBytes: number; totalBytes: number },
  { maxTotalBytes, maxCompressionRatio, ratioFreeBytes }: DatasetLimits,
): void {
  if (totalBytes > maxTotalBytes)
    throw new DatasetError('too_large', `expected at most ${inMebibytes(maxTotalBytes)} of files, got more`)
  if (totalBytes <= ratioFreeBytes || totalBytes <= packedBytes * maxCompressionRatio) return
  const expected = `an archive whose files are at most ${maxCompressionRatio} times its size`
  throw new DatasetError('archive_bomb', `expected ${expected}, got ${inMebibytes(totalBytes)} and more`)
}

export const inMebibytes = (bytes: number): string => `${Math.ceil(bytes / 2 ** 20)} MiB`
