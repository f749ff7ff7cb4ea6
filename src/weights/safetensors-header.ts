/** The header of a safetensors file: parsed and held against the format's rules, without a look at the tensors' bytes. */
import { isDtype, dtypes, sizeBytesOf, type Dtype } from './dtypes.ts'
import { quote, WeightsError, type Violation } from './errors.ts'
import { isObject, JsonError, parseJson, type JsonObject, type JsonValue } from './json.ts'

/** The reference implementation's limit. */
export const maxHeaderBytes = 100_000_000
/** A u64 in little-endian order: how many bytes of JSON follow. */
export const prefixBytes = 8

export interface TensorEntry {
  readonly name: string
  readonly dtype: Dtype
  readonly shape: readonly number[]
  /** First byte and the one after the last, counted from the end of the header. */
  readonly begin: number
  readonly end: number
}

export interface Header {
  /** In the order of their bytes in the file. */
  readonly tensors: readonly TensorEntry[]
  readonly metadata: ReadonlyMap<string, string>
}

/**
 * Checks the first eight bytes of a file.
 * @returns the header's length in bytes
 */
export function checkHeaderSize(prefix: Uint8Array, file: string, fileBytes: number): number {
  if (prefix.byteLength < prefixBytes) {
    throw new WeightsError({
      violation: 'truncated',
      file,
      expected: `at least ${prefixBytes} bytes`,
      got: `${prefix.byteLength}`,
    })
  }
  if (new TextDecoder('latin1').decode(prefix) === 'version ') {
    const got = 'a text file that stands for weights kept elsewhere (a Git LFS pointer)'
    throw new WeightsError({ violation: 'header_size', file, expected: 'a safetensors file', got })
  }
  const size = new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true)
  if (size > BigInt(maxHeaderBytes)) {
    const expected = `a header of at most ${maxHeaderBytes} bytes`
    throw new WeightsError({ violation: 'header_size', file, expected, got: `${size}` })
  }
  const available = fileBytes - prefixBytes
  if (size > BigInt(available)) {
    const expected = `a header inside the file, which has ${available} bytes after its first ${prefixBytes}`
    throw new WeightsError({ violation: 'truncated', file, expected, got: `a header of ${size} bytes` })
  }
  return Number(size)
}

/**
 * Checks everything that the header says: JSON, dtypes, shapes, and that the tensors fill the rest of the file, one after the other.
 * @param dataBytes what the file holds after the header
 * @throws {WeightsError} naming file, tensor, what was expected and what came
 */
export function parseHeader(bytes: Uint8Array, file: string, dataBytes: number): Header {
  const { __metadata__: metadata, ...entries } = parseObject(bytes, file)
  const tensors = Object.entries(entries).map(([name, entry]) => readEntry(name, entry, file))
  tensors.sort((a, b) => a.begin - b.begin || a.end - b.end)
  checkLayout(tensors, file, dataBytes)
  return { tensors, metadata: readMetadata(metadata, file) }
}

function parseObject(bytes: Uint8Array, file: string): JsonObject {
  const wrong = (violation: Violation, expected: string, got: string) =>
    new WeightsError({ violation, file, expected: `in the header, ${expected}`, got })
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw wrong('header_text', 'UTF-8', 'bytes that are none')
  }
  if (!text.startsWith('{')) throw wrong('header_text', '"{" as its first byte', quote(text.slice(0, 16)))
  try {
    return parseJson(text, 'strict') as JsonObject
  } catch (error) {
    if (!(error instanceof JsonError)) throw error
    const violation = error.reason === 'duplicate_key' ? 'duplicate_key' : 'header_text'
    throw wrong(violation, error.expected, `${error.got} (at character ${error.position})`)
  }
}

function readEntry(name: string, entry: JsonValue, file: string): TensorEntry {
  const wrong = (violation: Violation, expected: string, got: JsonValue | undefined) =>
    new WeightsError({
      violation,
      file,
      tensor: name,
      expected,
      got: got === undefined ? 'nothing' : show(got),
    })

  if (!name.isWellFormed()) throw wrong('name', 'a name of Unicode characters', 'half of a surrogate pair')
  if (!isObject(entry)) throw wrong('tensor_entry', 'an object with dtype, shape and data_offsets', entry)
  const { dtype, shape, data_offsets: offsets } = entry
  if (!isDtype(dtype)) throw wrong('dtype', `a dtype among ${dtypes.join(', ')}`, dtype)
  if (!isCounts(shape)) throw wrong('shape', 'a shape: a list of whole numbers from 0 to 2^53 − 1', shape)
  if (!isCounts(offsets) || offsets.length !== 2) {
    throw wrong('offsets', 'data_offsets: two whole numbers from 0 to 2^53 − 1', offsets)
  }
  const [begin = 0, end = 0] = offsets
  if (begin > end) throw wrong('offsets', 'data_offsets that end after they begin', offsets)
  const sizeBytes = sizeBytesOf(dtype, shape)
  if (sizeBytes === undefined) throw wrong('size', `fewer than 2^53 bytes for ${dtype}`, shape)
  if (sizeBytes !== end - begin) {
    throw wrong('size', `${sizeBytes} bytes for ${dtype} ${show(shape)}`, end - begin)
  }
  return { name, dtype, shape, begin, end }
}

/** @param tensors in the order of their offsets */
function checkLayout(tensors: readonly TensorEntry[], file: string, dataBytes: number): void {
  let filled = 0
  let previous = 'the header'
  for (const { name: tensor, begin, end } of tensors) {
    const got = `bytes ${begin} to ${end}`
    if (end > dataBytes) {
      const expected = `bytes inside the file, which has ${dataBytes} after its header`
      throw new WeightsError({ violation: 'truncated', file, tensor, expected, got })
    }
    if (begin < filled) {
      const expected = `to begin at byte ${filled}, where ${previous} ends`
      throw new WeightsError({ violation: 'overlap', file, tensor, expected, got })
    }
    if (begin > filled) {
      const expected = `to begin at byte ${filled}, right after ${previous}`
      throw new WeightsError({ violation: 'hole', file, tensor, expected, got })
    }
    filled = end
    previous = `tensor ${quote(tensor)}`
  }
  if (filled !== dataBytes) {
    const expected = `${filled} bytes after the header, up to the end of ${previous}`
    throw new WeightsError({ violation: 'hole', file, expected, got: `${dataBytes}` })
  }
}

function readMetadata(metadata: JsonValue | undefined, file: string): ReadonlyMap<string, string> {
  if (metadata === undefined) return new Map()
  const expected = 'in the header, __metadata__ as an object of texts'
  if (!isObject(metadata))
    throw new WeightsError({ violation: 'metadata', file, expected, got: show(metadata) })
  return new Map(
    Object.entries(metadata).map(([key, value]) => {
      if (typeof value === 'string') return [key, value]
      throw new WeightsError({ violation: 'metadata', file, expected, got: `${quote(key)}: ${show(value)}` })
    }),
  )
}

function isCounts(value: JsonValue | undefined): value is readonly number[] {
  return (
    Array.isArray(value) &&
    value.every((count) => Number.isSafeInteger(count) && Number(count) >= 0 && !Object.is(count, -0))
  )
}

function show(value: JsonValue): string {
  const text = JSON.stringify(value)
  return text.length <= 160 ? text : `${text.slice(0, 157)}…`
}
