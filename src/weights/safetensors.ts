/**
 * Opens safetensors files: where each tensor's bytes lie, known from the header alone, and the bytes of one tensor when asked.
 * The format: https://huggingface.co/docs/safetensors/index#format
 */
import { createHash } from 'node:crypto'
import { open, type FileHandle } from 'node:fs/promises'
import { arrayOf, isFloat, type Dtype, type FloatDtype, type TensorArray } from './dtypes.ts'
import { WeightsError } from './errors.ts'
import { explained, resolveFile } from './files.ts'
import { toFloat32 } from './floats.ts'
import { checkHeaderSize, parseHeader, prefixBytes } from './safetensors-header.ts'

/** Where a tensor lies, so that graphs can point at its bytes and nobody needs a copy. */
export interface TensorLocation<D extends Dtype = Dtype> {
  /** Absolute, with every symbolic link resolved: ONNX Runtime follows none out of a folder. */
  readonly file: string
  /** Of the first byte, from the start of the file. */
  readonly offset: number
  /** In bytes. */
  readonly length: number
  readonly dtype: D
  readonly shape: readonly number[]
}

export interface SafetensorsFile {
  /** Absolute, with every symbolic link resolved. */
  readonly file: string
  readonly sizeBytes: number
  /** SHA-256 of the header in hexadecimal: names, dtypes, shapes, offsets and metadata, not the weights. */
  readonly headerSha256: string
  /** In the order of their bytes in the file. */
  readonly tensors: ReadonlyMap<string, TensorLocation>
  readonly metadata: ReadonlyMap<string, string>
}

/**
 * Reads a file's header and nothing else, and checks all that it says; see parseHeader.
 * @throws {WeightsError}
 */
export async function openSafetensors(path: string): Promise<SafetensorsFile> {
  return withFile(path, async (handle, file) => {
    const stats = await handle.stat()
    if (!stats.isFile()) {
      throw new WeightsError({
        violation: 'unreadable',
        file,
        expected: 'a regular file',
        got: 'something else',
      })
    }
    const prefix = await readBytes(handle, 0, Math.min(prefixBytes, stats.size), file)
    const headerBytes = checkHeaderSize(prefix, file, stats.size)
    const header = await readBytes(handle, prefixBytes, headerBytes, file)
    const dataStart = prefixBytes + headerBytes
    const { tensors, metadata } = parseHeader(header, file, stats.size - dataStart)
    return {
      file,
      sizeBytes: stats.size,
      headerSha256: createHash('sha256').update(header).digest('hex'),
      tensors: new Map(
        tensors.map(({ name, dtype, shape, begin, end }) => [
          name,
          { file, offset: dataStart + begin, length: end - begin, dtype, shape },
        ]),
      ),
      metadata,
    }
  })
}

/**
 * Reads one tensor's bytes, and no others.
 * @returns elements in row-major order; BF16 as raw bits
 * @throws {WeightsError} when the file is no longer what it was when it was opened
 */
export async function readTensor<D extends Dtype>(location: TensorLocation<D>): Promise<TensorArray<D>> {
  const { file, offset, length, dtype } = location
  const bytes = await withFile(file, (handle) => readBytes(handle, offset, length, file))
  return arrayOf(dtype, bytes.buffer)
}

/** As readTensor, with F16 and BF16 widened to float32, which is exact. */
export async function readFloats(location: TensorLocation): Promise<Float32Array<ArrayBuffer>> {
  if (!isFloatLocation(location)) {
    const { file, dtype } = location
    throw new WeightsError({ violation: 'dtype', file, expected: 'a tensor of F32, F16 or BF16', got: dtype })
  }
  return toFloat32(await readTensor(location))
}

/** The bytes of one tensor, in pieces of at most `chunkBytes`. */
export async function* readChunks(
  location: TensorLocation,
  chunkBytes: number,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const { file, offset, length } = location
  const handle = await openForReading(file)
  try {
    for (let done = 0; done < length; done += chunkBytes) {
      yield await readBytes(handle, offset + done, Math.min(chunkBytes, length - done), file)
    }
  } finally {
    await handle.close()
  }
}

export function isFloatLocation(location: TensorLocation): location is TensorLocation<FloatDtype> {
  return isFloat(location.dtype)
}

async function withFile<T>(path: string, use: (handle: FileHandle, file: string) => Promise<T>): Promise<T> {
  const file = await resolveFile(path)
  const handle = await openForReading(file)
  try {
    return await use(handle, file)
  } finally {
    await handle.close()
  }
}

function openForReading(file: string): Promise<FileHandle> {
  return explained(file, 'a readable file', open(file, 'r'))
}

/** One read call takes at most 2^31 − 1 bytes. */
const largestRead = 2 ** 30

/** @throws {WeightsError} when the file ends before the bytes do */
export async function readBytes(
  handle: FileHandle,
  offset: number,
  length: number,
  file: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length)
  let done = 0
  while (done < length) {
    const size = Math.min(length - done, largestRead)
    const read = handle.read(bytes, done, size, offset + done)
    const { bytesRead } = await explained(file, 'readable bytes', read)
    if (bytesRead === 0) {
      const got = `the end of the file at ${offset + done}`
      throw new WeightsError({
        violation: 'truncated',
        file,
        expected: `bytes up to ${offset + length}`,
        got,
      })
    }
    done += bytesRead
  }
  return bytes
}
