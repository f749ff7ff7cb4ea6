/** Tells one set of weights from another in milliseconds, however many gigabytes they are. */
import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'
import { explained } from './files.ts'
import { readBytes, type SafetensorsFile } from './safetensors.ts'

/** From the middle of each tensor; smaller tensors count whole. */
const sampleBytes = 4096

/**
 * Covers, per file: its size, its header (names, dtypes, shapes, order, metadata) and 4 KiB from the middle of every tensor.
 * A training run touches nearly every weight and so changes it; a change to a few chosen numbers elsewhere in a large tensor does not.
 * The same bytes give the same fingerprint on every machine, under every path and at every date.
 * @returns SHA-256 in hexadecimal
 */
export async function fingerprintWeights(files: readonly SafetensorsFile[]): Promise<string> {
  return fingerprint(await Promise.all(files.map(fingerprintFile)))
}

/** SHA-256 in hexadecimal of several parts, each counted with its length. */
export function fingerprint(parts: Iterable<string | Uint8Array>): string {
  const hash = createHash('sha256')
  for (const part of parts) {
    const bytes = typeof part === 'string' ? Buffer.from(part) : part
    hash.update(`${bytes.byteLength}:`).update(bytes)
  }
  return hash.digest('hex')
}

async function fingerprintFile({ file, sizeBytes, headerSha256, tensors }: SafetensorsFile): Promise<string> {
  const parts: (string | Uint8Array)[] = [String(sizeBytes), headerSha256]
  const handle = await explained(file, 'a readable file', open(file, 'r'))
  try {
    for (const { offset, length } of tensors.values()) {
      const size = Math.min(length, sampleBytes)
      parts.push(await readBytes(handle, offset + Math.floor((length - size) / 2), size, file))
    }
  } finally {
    await handle.close()
  }
  return fingerprint(parts)
}
