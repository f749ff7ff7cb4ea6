/** Arrays on disk that can be made again: by key, each in a file of its own, written whole or not at all. */
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { crc32 } from 'node:zlib'

export interface CachedArray {
  readonly dims: readonly number[]
  readonly data: Float32Array<ArrayBuffer>
}

/** What decides the contents, all of it: the file's name is its hash. */
export type CacheKey = readonly (string | number)[]

/**
 * A file is the magic number, the rank and the CRC-32 of all that follows, then the dimensions and the numbers; all in the byte order
 * of the machine, which is little-endian wherever this runs.
 */
const magic = 0x31435441 // "ATC1"
const headerBytes = 12

export class ArrayCache {
  readonly #folder: string

  constructor(folder: string) {
    this.#folder = folder
  }

  /** Undefined when there is none, or it is damaged: then it is to be made anew. */
  async read(key: CacheKey): Promise<CachedArray | undefined> {
    const bytes = await readFile(this.#file(key)).catch(undefinedWhenAbsent)
    return bytes && parse(bytes)
  }

  /** Whether there is one, of the right size when that is given; what is in it is seen when it is read. */
  async has(key: CacheKey, dims?: readonly number[]): Promise<boolean> {
    const found = await stat(this.#file(key)).catch(undefinedWhenAbsent)
    return found !== undefined && (dims === undefined || found.size === sizeOf(dims))
  }

  async write(key: CacheKey, { dims, data }: CachedArray): Promise<void> {
    const bytes = new Uint8Array(sizeOf(dims))
    const header = new Uint32Array(bytes.buffer, 0, 3 + dims.length)
    header.set(dims, 3)
    new Float32Array(bytes.buffer, headerBytes + 4 * dims.length).set(data)
    header.set([magic, dims.length, crc32(bytes.subarray(headerBytes))])
    const file = this.#file(key)
    const temporary = `${file}.${randomBytes(8).toString('hex')}.tmp`
    await mkdir(dirname(file), { recursive: true })
    try {
      await writeFile(temporary, bytes, { flag: 'wx' })
      await rename(temporary, file)
    } catch (error) {
      await rm(temporary, { force: true })
      throw error
    }
  }

  #file(key: CacheKey): string {
    const name = createHash('sha256').update(JSON.stringify(key)).digest('hex')
    return join(this.#folder, name.slice(0, 2), name.slice(2))
  }
}

const sizeOf = (dims: readonly number[]): number =>
  headerBytes + 4 * dims.length + 4 * dims.reduce((a, b) => a * b, 1)

function parse(bytes: Uint8Array): CachedArray | undefined {
  if (bytes.length < headerBytes) return undefined
  const own = new Uint8Array(bytes) // aligned, whatever the buffer was cut from
  const [mark, rank, checksum] = new Uint32Array(own.buffer, 0, 3)
  if (mark !== magic || rank! > 8 || own.length < headerBytes + 4 * rank!) return undefined
  const dims = [...new Uint32Array(own.buffer, headerBytes, rank)]
  if (own.length !== sizeOf(dims) || crc32(own.subarray(headerBytes)) !== checksum) return undefined
  return { dims, data: new Float32Array(own.buffer, headerBytes + 4 * rank!) }
}

function undefinedWhenAbsent(error: unknown): undefined {
  if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
  throw error
}
