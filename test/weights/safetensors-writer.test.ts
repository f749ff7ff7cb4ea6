import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { arrayOf, bytesPerElement, dtypes, type Dtype } from '../../src/weights/dtypes.ts'
import { openSafetensors, readTensor } from '../../src/weights/safetensors.ts'
import { writeSafetensors, type TensorSource } from '../../src/weights/safetensors-writer.ts'
import { temporaryFolder } from './folder.ts'
import { refusal } from './rejection.ts'

async function* pieces(...chunks: number[][]): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) yield await Promise.resolve(new Uint8Array(chunk))
}

describe("the reference implementation's bytes", () => {
  const sixFloats = new Float32Array([0, 1, 2, 3, 4, 5])
  const single = (name: string, shape: number[]): [string, TensorSource][] => [
    [name, { dtype: 'F32', shape, data: sixFloats }],
  ]
  const metadata = new Map([['framework', 'pt']])
  // The files that the reference's own tests expect (safetensors, tensor.rs: test_serialization, _forced_alignement, test_empty).
  test.each([
    [
      'attn.0',
      [...single('attn.0', [1, 2, 3])],
      undefined,
      '{"attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]}}',
      64,
    ],
    [
      'attn0',
      [...single('attn0', [1, 1, 2, 3])],
      undefined,
      '{"attn0":{"dtype":"F32","shape":[1,1,2,3],"data_offsets":[0,24]}}       ',
      72,
    ],
    ['nothing', [], undefined, '{}      ', 8],
    ['metadata alone', [], metadata, '{"__metadata__":{"framework":"pt"}}     ', 40],
  ] as const)('%s', async (_name, tensors, metadata, header, headerBytes) => {
    const file = join(await temporaryFolder(), 'w.safetensors')
    await writeSafetensors(file, tensors, metadata)
    const bytes = await readFile(file)
    expect(bytes.readBigUInt64LE()).toBe(BigInt(headerBytes))
    expect(bytes.toString('utf8', 8, 8 + headerBytes)).toBe(header)
    const data = bytes.subarray(8 + headerBytes)
    expect(data.equals(tensors.length === 0 ? Buffer.alloc(0) : Buffer.from(sixFloats.buffer))).toBe(true)
  })

  test('tensors go by alignment, largest first, then by name in the order of its UTF-8 bytes', async () => {
    const file = join(await temporaryFolder(), 'w.safetensors')
    const zero = (dtype: Dtype) =>
      ({ dtype, shape: [1], data: arrayOf(dtype, new ArrayBuffer(bytesPerElement[dtype])) }) as TensorSource
    const order = ['I64', 'F32', 'I32', 'BF16', 'F16', 'U8'] as const
    const names = ['10', '2', 'B', 'a', '\u{fb01}', '\u{1f600}']
    await writeSafetensors(
      file,
      order
        .toReversed()
        .flatMap((dtype) => names.toReversed().map((name) => [`${name}.${dtype}`, zero(dtype)] as const)),
    )
    const { tensors } = await openSafetensors(file)
    expect([...tensors.keys()]).toEqual(order.flatMap((dtype) => names.map((name) => `${name}.${dtype}`)))
    for (const { offset, dtype } of tensors.values()) expect(offset % bytesPerElement[dtype]).toBe(0)
  })
})

describe('what was written is what is read', () => {
  const shape = fc.array(fc.nat(4), { maxLength: 4 })
  const name = fc.string({ unit: 'binary', maxLength: 12 }).filter((text) => text !== '__metadata__')
  const tensor = fc.record({
    name,
    dtype: fc.constantFrom(...dtypes),
    shape,
    seed: fc.nat(255),
    pieces: fc.integer({ min: 0, max: 3 }),
  })

  test('random tensors, whole and in pieces, with random metadata', async () => {
    const file = join(await temporaryFolder(), 'w.safetensors')
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(tensor, { selector: ({ name }) => name, maxLength: 8 }),
        fc.dictionary(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' })),
        async (tensors, metadata) => {
          const contents = new Map(
            tensors.map(({ name, dtype, shape, seed }) => {
              const size = shape.reduce((product, side) => product * side, bytesPerElement[dtype] as number)
              return [name, new Uint8Array(size).map((_, i) => seed + i * 7)] as const
            }),
          )
          const sources = tensors.map(({ name, dtype, shape, pieces: count }) => {
            const bytes = contents.get(name)!
            const cut = Math.floor(bytes.length / (count + 1))
            const data =
              count === 0
                ? arrayOf(dtype, bytes.buffer)
                : pieces([...bytes.subarray(0, cut)], [...bytes.subarray(cut)])
            return [name, { dtype, shape, data } as TensorSource] as const
          })
          const texts = new Map(Object.entries(metadata))
          await writeSafetensors(file, sources, texts)
          const read = await openSafetensors(file)
          expect(new Map(read.metadata)).toEqual(texts)
          expect(read.tensors.size).toBe(tensors.length)
          for (const { name, dtype, shape } of tensors) {
            const location = read.tensors.get(name)!
            expect(location).toMatchObject({ dtype, shape })
            expect(Buffer.from((await readTensor(location)).buffer).equals(contents.get(name)!)).toBe(true)
          }
        },
      ),
      { numRuns: 100 },
    )
  })

  test('a view into a larger buffer is written alone', async () => {
    const file = join(await temporaryFolder(), 'w.safetensors')
    const data = new Float32Array([1, 2, 3, 4]).subarray(1, 3)
    await writeSafetensors(file, [['a', { dtype: 'F32', shape: [2], data }]])
    const { tensors } = await openSafetensors(file)
    expect([...(await readTensor(tensors.get('a')!))]).toEqual([2, 3])
  })
})

test('writers of one path at the same time leave one whole file, the last of them', async () => {
  const folder = await temporaryFolder()
  const file = join(folder, 'w.safetensors')
  const write = (value: number) =>
    writeSafetensors(file, [
      ['a', { dtype: 'U8', shape: [100_000], data: new Uint8Array(100_000).fill(value) }],
    ])
  await Promise.all([1, 2, 3, 4, 5].map(write))
  const { tensors } = await openSafetensors(file)
  expect(new Set(new Uint8Array((await readTensor(tensors.get('a')!)).buffer)).size).toBe(1)
  expect(await readdir(folder)).toEqual(['w.safetensors'])
})

describe('what cannot be written leaves what was there, and nothing else', () => {
  const one = (source: object) => [
    ['a', { dtype: 'U8', shape: [2], data: new Uint8Array(2), ...source } as TensorSource] as const,
  ]
  test.each([
    ['too few bytes', 'data', () => one({ data: pieces([1]) })],
    ['too many bytes', 'data', () => one({ data: pieces([1, 2], [3]) })],
    ['a shape of another size', 'data', () => one({ shape: [3] })],
    ['a negative side', 'shape', () => one({ shape: [-2] })],
    ['a size past 2^53', 'shape', () => one({ shape: [2 ** 30, 2 ** 30] })],
    ['a name twice', 'name', () => [...one({}), ...one({})]],
    ['the name of the metadata', 'name', () => [['__metadata__', one({})[0]![1]] as const]],
  ])('%s', async (_what, violation, tensors) => {
    const folder = await temporaryFolder()
    const file = join(folder, 'w.safetensors')
    await writeFile(file, 'before')
    expect((await refusal(writeSafetensors(file, tensors()))).violation).toBe(violation)
    expect(await readFile(file, 'utf8')).toBe('before')
    expect(await readdir(folder)).toEqual(['w.safetensors'])
  })

  test('a source that fails', async () => {
    const folder = await temporaryFolder()
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield new Uint8Array(1)
      throw await Promise.resolve(new Error('the source is gone'))
    }
    await expect(writeSafetensors(join(folder, 'w'), one({ data: failing() }))).rejects.toThrow(
      'the source is gone',
    )
    expect(await readdir(folder)).toEqual([])
  })

  test('a folder that is not there', async () => {
    const file = join(await temporaryFolder(), 'absent', 'w.safetensors')
    expect((await refusal(writeSafetensors(file, one({})))).message).toBe(
      `${file}: expected to write it, got no such file or folder`,
    )
  })
})
