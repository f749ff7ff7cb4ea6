import { glob, readFile, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { arrayOf, bytesPerElement, elementsOf } from '../../src/weights/dtypes.ts'
import { WeightsError } from '../../src/weights/errors.ts'
import {
  openSafetensors,
  readChunks,
  readFloats,
  readTensor,
  type SafetensorsFile,
} from '../../src/weights/safetensors.ts'
import { writeSafetensors, type TensorSource } from '../../src/weights/safetensors-writer.ts'
import { readFixture } from '../safetensors.ts'
import { temporaryFolder } from './folder.ts'
import { refusal } from './rejection.ts'

const golden = new URL('../fixtures/golden/', import.meta.url).pathname
const goldenFiles = await Array.fromAsync(glob('**/*.safetensors', { cwd: golden }))

/** A file from a header's text and as many zero bytes as wanted. */
function fileOf(header: string | Uint8Array, dataBytes = 0, headerBytes?: number): Buffer {
  const json = Buffer.from(header as string)
  const prefix = Buffer.alloc(8)
  prefix.writeBigUInt64LE(BigInt(headerBytes ?? json.length))
  return Buffer.concat([prefix, json, Buffer.alloc(dataBytes)])
}

const entry = (fields: object = {}) => ({ dtype: 'F32', shape: [2], data_offsets: [0, 8], ...fields })
const header = (entries: object) => JSON.stringify(entries)

describe('files that others wrote', () => {
  test('there are golden files to hold it against', () => {
    expect(goldenFiles.length).toBeGreaterThanOrEqual(18)
  })

  test.each(goldenFiles)(
    '%s: every tensor has the name, dtype, shape and values that another reader finds',
    async (name) => {
      const { tensors } = await openSafetensors(join(golden, name))
      const reference = readFixture(`golden/${name}`)
      expect([...tensors.keys()].sort()).toEqual([...reference.keys()].sort())
      for (const [key, { dtype, shape, data }] of reference) {
        const location = tensors.get(key)!
        expect(location).toMatchObject({ dtype, shape, length: data.byteLength })
        expect(Buffer.from((await readTensor(location)).buffer).equals(Buffer.from(data.buffer))).toBe(true)
      }
    },
  )

  test('what F16, BF16 and F32 hold comes as float32', async () => {
    const folder = await temporaryFolder()
    const file = join(folder, 'w.safetensors')
    await writeSafetensors(file, [
      ['half', { dtype: 'F16', shape: [3], data: new Float16Array([1, -2.5, 65504]) }],
      ['brain', { dtype: 'BF16', shape: [2], data: new Uint16Array([0x3f80, 0xc000]) }],
      ['single', { dtype: 'F32', shape: [], data: new Float32Array([0.1]) }],
      ['count', { dtype: 'I64', shape: [1], data: new BigInt64Array([7n]) }],
    ])
    const { tensors } = await openSafetensors(file)
    expect([...(await readFloats(tensors.get('half')!))]).toEqual([1, -2.5, 65504])
    expect([...(await readFloats(tensors.get('brain')!))]).toEqual([1, -2])
    expect([...(await readFloats(tensors.get('single')!))]).toEqual([Math.fround(0.1)])
    expect((await refusal(readFloats(tensors.get('count')!))).violation).toBe('dtype')
  })

  test('a location names the real file behind a link', async () => {
    const folder = await temporaryFolder()
    await writeFile(join(folder, 'blob'), fileOf(header({ a: entry() }), 8))
    await symlink('blob', join(folder, 'model.safetensors'))
    const { file, tensors } = await openSafetensors(join(folder, 'model.safetensors'))
    expect(file).toBe(join(folder, 'blob'))
    expect(tensors.get('a')).toMatchObject({ file: join(folder, 'blob'), length: 8 })
  })

  test('a tensor comes in pieces of the size that was asked for', async () => {
    const folder = await temporaryFolder()
    const file = join(folder, 'w.safetensors')
    await writeSafetensors(file, [
      ['a', { dtype: 'U8', shape: [10], data: new Uint8Array(10).map((_, i) => i) }],
    ])
    const { tensors } = await openSafetensors(file)
    const chunks = await Array.fromAsync(readChunks(tensors.get('a')!, 4))
    expect(chunks.map((chunk) => [...chunk])).toEqual([
      [0, 1, 2, 3],
      [4, 5, 6, 7],
      [8, 9],
    ])
  })

  test('only the header is read: a 64 GiB file of holes opens at once', async () => {
    const folder = await temporaryFolder()
    const file = join(folder, 'huge.safetensors')
    const elements = 2 ** 34
    const text = header({ huge: entry({ shape: [elements], data_offsets: [0, elements * 4] }) })
    await writeFile(file, fileOf(text))
    await truncate(file, 8 + text.length + elements * 4)
    const { tensors } = await openSafetensors(file)
    expect(tensors.get('huge')).toMatchObject({ length: 2 ** 36, offset: 8 + text.length })
  })

  test('names that JavaScript objects treat as their own are names like any other', async () => {
    const folder = await temporaryFolder()
    const file = join(folder, 'w.safetensors')
    const names = ['__proto__', 'constructor', 'toString', '7', '07']
    const entries = names.map(
      (name, i) => `"${name}":{"dtype":"U8","shape":[1],"data_offsets":[${i},${i + 1}]}`,
    )
    await writeFile(file, fileOf(`{${entries.join(',')}}`, names.length))
    expect([...(await openSafetensors(file)).tensors.keys()]).toEqual(names)
  })
})

describe('files that break a rule are refused, each by its own name', () => {
  const cases: readonly [violation: string, what: string, bytes: Buffer, message: string | RegExp][] = [
    ['truncated', 'an empty file', Buffer.alloc(0), 'expected at least 8 bytes, got 0'],
    ['truncated', 'seven bytes', Buffer.alloc(7), 'expected at least 8 bytes, got 7'],
    [
      'truncated',
      'a header past the end',
      fileOf('{}', 0, 3),
      /header inside the file.*got a header of 3 bytes/,
    ],
    [
      'header_size',
      'a header over 100 MB',
      fileOf('{}', 0, 100_000_001),
      /at most 100000000 bytes, got 100000001/,
    ],
    ['header_size', 'the largest header size', Buffer.alloc(8, 0xff), /got 18446744073709551615/],
    [
      'header_size',
      'a Git LFS pointer',
      Buffer.from('version https://git-lfs.github.com/spec/v1'),
      /Git LFS pointer/,
    ],
    ['header_text', 'bytes that are no UTF-8', fileOf(Buffer.from([0x7b, 0xff, 0x7d])), /UTF-8/],
    ['header_text', 'no JSON', fileOf('{"a":'), /a value, got the end of the text/],
    ['header_text', 'NaN, which is no JSON', fileOf('{"a":NaN}'), /a value, got "NaN}"/],
    ['header_text', 'an array', fileOf('[]'), /"{" as its first byte/],
    ['header_text', 'a space before the object', fileOf(' {}'), /"{" as its first byte/],
    ['header_text', 'something after the object', fileOf('{}x'), /end of the text/],
    ['header_text', 'no header at all', fileOf(''), /"{" as its first byte/],
    ['header_text', 'nesting to break a stack', fileOf(`{"a":${'['.repeat(1e6)}`), /at most 127 levels/],
    ['duplicate_key', 'a tensor twice', fileOf('{"a":{},"a":{}}'), /every key once, got "a" again/],
    ['duplicate_key', 'a tensor twice, once escaped', fileOf(String.raw`{"a":{},"\u0061":{}}`), /"a" again/],
    ['duplicate_key', 'a field twice', fileOf('{"a":{"dtype":"F32","dtype":"F16"}}'), /"dtype" again/],
    [
      'duplicate_key',
      '__metadata__ twice',
      fileOf('{"__metadata__":{},"__metadata__":{}}'),
      /"__metadata__" again/,
    ],
    [
      'metadata',
      'metadata that is no object',
      fileOf(header({ __metadata__: [] })),
      /object of texts, got \[\]/,
    ],
    ['metadata', 'metadata of numbers', fileOf(header({ __metadata__: { a: 1 } })), /got "a": 1/],
    [
      'tensor_entry',
      'a tensor that is no object',
      fileOf(header({ a: 1 })),
      /tensor "a": expected an object/,
    ],
    [
      'dtype',
      'a dtype that nobody knows',
      fileOf(header({ a: entry({ dtype: 'F8_E4M3' }) }), 8),
      /got "F8_E4M3"/,
    ],
    ['dtype', 'no dtype', fileOf(header({ a: { shape: [], data_offsets: [0, 0] } })), /got nothing/],
    ['shape', 'a negative side', fileOf(header({ a: entry({ shape: [-1] }) }), 8), /got \[-1\]/],
    ['shape', 'half a side', fileOf(header({ a: entry({ shape: [1.5] }) }), 8), /got \[1.5\]/],
    [
      'shape',
      'a side past 2^53',
      fileOf(header({ a: entry({ shape: [2 ** 53] }) }), 8),
      /got \[9007199254740992\]/,
    ],
    ['offsets', 'one offset', fileOf(header({ a: entry({ data_offsets: [0] }) }), 8), /got \[0\]/],
    [
      'offsets',
      'an end before its begin',
      fileOf(header({ a: entry({ data_offsets: [8, 0] }) }), 8),
      /got \[8,0\]/,
    ],
    [
      'size',
      'more bytes than its shape',
      fileOf(header({ a: entry({ shape: [1] }) }), 8),
      /expected 4 bytes .*got 8/,
    ],
    [
      'size',
      'a shape that overflows',
      fileOf(header({ a: entry({ shape: [2 ** 52, 2 ** 52] }) }), 8),
      /fewer than 2\^53/,
    ],
    [
      'size',
      'a shape that overflows times 0',
      fileOf(header({ a: entry({ shape: [2 ** 52, 2 ** 52, 0] }) }), 8),
      /2\^53/,
    ],
    [
      'truncated',
      'bytes past the end of the file',
      fileOf(header({ a: entry() }), 7),
      /inside the file, which has 7/,
    ],
    [
      'overlap',
      'two tensors on one place',
      fileOf(header({ a: entry(), b: entry() }), 8),
      /"b": expected to begin at byte 8/,
    ],
    [
      'overlap',
      'an empty tensor inside another',
      fileOf(header({ a: entry(), b: entry({ shape: [0], data_offsets: [4, 4] }) }), 8),
      /"b": expected to begin at byte 8/,
    ],
    [
      'hole',
      'a hole before the first',
      fileOf(header({ a: entry({ data_offsets: [4, 12] }) }), 12),
      /begin at byte 0/,
    ],
    [
      'hole',
      'a hole between two',
      fileOf(header({ a: entry(), b: entry({ data_offsets: [9, 17] }) }), 17),
      /"b": expected to begin at byte 8, right after tensor "a"/,
    ],
    [
      'hole',
      'bytes after the last',
      fileOf(header({ a: entry() }), 9),
      /expected 8 bytes after the header.*got 9/,
    ],
    ['name', 'half a surrogate pair', fileOf(String.raw`{"\ud800":{}}`), /Unicode/],
  ]

  test.each(cases)('%s: %s', async (violation, _what, bytes, message) => {
    const file = join(await temporaryFolder(), 'w.safetensors')
    await writeFile(file, bytes)
    const error = await refusal(openSafetensors(file))
    expect(error.violation).toBe(violation)
    expect(error.file).toBe(file)
    expect(error.message.startsWith(file)).toBe(true)
    expect(error.message).toMatch(message)
  })

  test('no file, a folder, a link to nothing', async () => {
    const folder = await temporaryFolder()
    await symlink('nowhere', join(folder, 'dangling'))
    for (const path of [join(folder, 'absent'), folder, join(folder, 'dangling')]) {
      expect((await refusal(openSafetensors(path))).violation).toBe('unreadable')
    }
  })

  test('a file that shrank after it was opened gives no tensor', async () => {
    const file = join(await temporaryFolder(), 'w.safetensors')
    await writeFile(file, fileOf(header({ a: entry() }), 8))
    const { tensors } = await openSafetensors(file)
    await truncate(file, 50)
    expect((await refusal(readTensor(tensors.get('a')!))).violation).toBe('truncated')
  })
})

function endsWithItsTensors({ tensors, sizeBytes }: SafetensorsFile): boolean {
  const locations = [...tensors.values()]
  const total = locations.reduce((sum, { length }) => sum + length, 0)
  return Math.min(...locations.map(({ offset }) => offset)) + total === sizeBytes
}

describe('properties', () => {
  test('damage anywhere in the header is a WeightsError or leaves tensors that still fill the file', async () => {
    const file = join(await temporaryFolder(), 'w.safetensors')
    await writeSafetensors(
      file,
      (['F32', 'F16', 'U8'] as const).map((dtype) => [
        `block.${dtype}`,
        {
          dtype,
          shape: [2, 3],
          data: arrayOf(dtype, new ArrayBuffer(6 * bytesPerElement[dtype])),
        } as TensorSource,
      ]),
      new Map([['format', 'pt']]),
    )
    const original = await readFile(file)
    const headerEnd = 8 + Number(original.readBigUInt64LE())
    const position = fc.nat(headerEnd - 1)
    const damage = fc.oneof(
      fc.record({
        kind: fc.constant('overwrite'),
        position,
        bytes: fc.uint8Array({ minLength: 1, maxLength: 12 }),
      }),
      fc.record({
        kind: fc.constant('insert'),
        position,
        bytes: fc.uint8Array({ minLength: 1, maxLength: 12 }),
      }),
      fc.record({ kind: fc.constant('cut'), position, bytes: fc.constant(new Uint8Array()) }),
    )
    await fc.assert(
      fc.asyncProperty(damage, async ({ kind, position, bytes }) => {
        const rest = kind === 'overwrite' ? position + bytes.length : position
        const tail = kind === 'cut' ? Buffer.alloc(0) : original.subarray(rest)
        await writeFile(file, Buffer.concat([original.subarray(0, position), bytes, tail]))
        const opened = await openSafetensors(file).catch((error: unknown) => error)
        expect(opened instanceof WeightsError || endsWithItsTensors(opened as SafetensorsFile)).toBe(true)
      }),
      { numRuns: 400 },
    )
  })

  test('any JSON in place of any field is refused, unless it is the same', async () => {
    const file = join(await temporaryFolder(), 'w.safetensors')
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom('dtype', 'shape', 'data_offsets'),
        fc.jsonValue(),
        async (field, value) => {
          fc.pre(JSON.stringify(value) !== JSON.stringify(entry()[field as 'dtype']))
          // Further sides of length one change nothing, and are the only other values that fit.
          fc.pre(!(field === 'shape' && Array.isArray(value) && elementsOf(value as number[]) === 2))
          await writeFile(file, fileOf(header({ a: entry({ [field]: value }) }), 8))
          expect((await refusal(openSafetensors(file))).tensor).toBe('a')
        },
      ),
      { numRuns: 200 },
    )
  })
})
