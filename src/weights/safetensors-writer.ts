/** Writes safetensors files as the reference implementation lays them out, whole or not at all, also past the size of memory. */
import { randomBytes } from 'node:crypto'
import { open, rename, rm, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { dtypes, sizeBytesOf, type Dtype, type TensorArray } from './dtypes.ts'
import { WeightsError } from './errors.ts'
import { systemReason } from './files.ts'
import { maxHeaderBytes, prefixBytes } from './safetensors-header.ts'

/** A tensor to write; its bytes may come in pieces, which are asked for when their turn has come. */
export type TensorSource = { readonly [D in Dtype]: SourceOf<D> }[Dtype]

interface SourceOf<D extends Dtype> {
  readonly dtype: D
  readonly shape: readonly number[]
  readonly data: TensorArray<D, ArrayBufferLike> | AsyncIterable<Uint8Array>
}

interface Planned {
  readonly name: string
  readonly source: TensorSource
  readonly sizeBytes: number
}

/** Every temporary of `path` is called `path.RANDOM` with this ending. */
export const temporarySuffix = '.tmp'

/**
 * Writes to a temporary file beside `path`, flushes it to the disk and renames it: whoever opens `path` finds nothing, or the file
 * before, or this one, but never a part. On failure the temporary is removed.
 *
 * The bytes equal those of the reference implementation (safetensors 0.4, `serialize_to_file`): tensors by dtype, largest
 * alignment first, then by name; compact JSON; spaces up to a multiple of eight. It leaves the order of metadata to chance: here it is by key.
 * @param signal ends the work between two pieces of a tensor
 * @throws {WeightsError} a name, a size or an amount of data that does not fit; a disk that does not take it
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<readonly [name: string, source: TensorSource]>,
  metadata?: ReadonlyMap<string, string>,
  signal?: AbortSignal,
): Promise<void> {
  const planned = plan(path, tensors)
  const header = buildHeader(path, planned, metadata)
  const temporary = `${path}.${randomBytes(8).toString('hex')}${temporarySuffix}`
  try {
    await writeFlushed(temporary, async (handle) => {
      await writeAll(handle, header)
      for (const tensor of planned) await writeTensor(handle, path, tensor, signal)
    })
    await rename(temporary, path)
    await flushFolder(dirname(path))
  } catch (cause) {
    await rm(temporary, { force: true })
    // What a source threw is the source's to explain.
    if (!(cause instanceof Error && 'syscall' in cause)) throw cause
    throw new WeightsError({
      violation: 'unwritable',
      file: path,
      expected: 'to write it',
      got: systemReason(cause),
      cause,
    })
  }
}

function plan(file: string, tensors: Iterable<readonly [string, TensorSource]>): readonly Planned[] {
  const names = new Set<string>()
  const planned = Array.from(tensors, ([name, source]) => {
    const { dtype, shape } = source
    if (names.has(name) || name === '__metadata__' || !name.isWellFormed()) {
      const expected = 'names of Unicode characters, each once, none of them __metadata__'
      throw new WeightsError({ violation: 'name', file, tensor: name, expected, got: 'this one' })
    }
    names.add(name)
    const sizeBytes = shape.every((side) => Number.isSafeInteger(side) && side >= 0)
      ? sizeBytesOf(dtype, shape)
      : undefined
    if (sizeBytes === undefined) {
      const expected = 'whole numbers from 0 and fewer than 2^53 bytes'
      throw new WeightsError({
        violation: 'shape',
        file,
        tensor: name,
        expected,
        got: `${dtype} [${shape.join(', ')}]`,
      })
    }
    return { name, source, sizeBytes, key: Buffer.from(name) }
  })
  return planned.sort(
    (a, b) => dtypes.indexOf(a.source.dtype) - dtypes.indexOf(b.source.dtype) || Buffer.compare(a.key, b.key),
  )
}

/** The length prefix, the JSON, and its padding. */
function buildHeader(
  file: string,
  planned: readonly Planned[],
  metadata: ReadonlyMap<string, string> | undefined,
): Uint8Array {
  const members: string[] = []
  if (metadata !== undefined) {
    const texts = [...metadata].sort(([a], [b]) => (a < b ? -1 : 1))
    members.push(
      `"__metadata__":{${texts.map(([key, text]) => `${JSON.stringify(key)}:${JSON.stringify(text)}`).join(',')}}`,
    )
  }
  let begin = 0
  for (const { name, source, sizeBytes } of planned) {
    const entry = { dtype: source.dtype, shape: source.shape, data_offsets: [begin, begin + sizeBytes] }
    members.push(`${JSON.stringify(name)}:${JSON.stringify(entry)}`)
    begin += sizeBytes
  }
  const json = Buffer.from(`{${members.join(',')}}`)
  const length = Math.ceil(json.length / 8) * 8
  if (length > maxHeaderBytes) {
    const expected = `a header of at most ${maxHeaderBytes} bytes`
    throw new WeightsError({ violation: 'header_size', file, expected, got: `${length}` })
  }
  const header = Buffer.alloc(prefixBytes + length, ' ')
  header.writeBigUInt64LE(BigInt(length))
  json.copy(header, prefixBytes)
  return header
}

async function writeTensor(
  handle: FileHandle,
  file: string,
  { name, source, sizeBytes }: Planned,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { data } = source
  let written = 0
  const chunks = ArrayBuffer.isView(data)
    ? [new Uint8Array(data.buffer, data.byteOffset, data.byteLength)]
    : data
  for await (const chunk of chunks) {
    signal?.throwIfAborted()
    written += chunk.byteLength
    if (written > sizeBytes) break
    await writeAll(handle, chunk)
  }
  if (written !== sizeBytes) {
    const expected = `${sizeBytes} bytes for ${source.dtype} [${source.shape.join(', ')}]`
    const got = written > sizeBytes ? 'more' : `${written}`
    throw new WeightsError({ violation: 'data', file, tensor: name, expected, got })
  }
}

async function writeFlushed(file: string, fill: (handle: FileHandle) => Promise<void>): Promise<void> {
  const handle = await open(file, 'wx')
  try {
    await fill(handle)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** A rename is on the disk only when its folder is. */
async function flushFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** One write call takes at most 2^31 − 1 bytes, and may take fewer than it was given. */
const largestWrite = 2 ** 30

async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.byteLength;) {
    const { bytesWritten } = await handle.write(bytes, done, Math.min(bytes.byteLength - done, largestWrite))
    done += bytesWritten
  }
}
