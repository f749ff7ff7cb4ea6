import { mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  availableProviders,
  float32,
  int32,
  partlyFed,
  Session,
  type Provider,
  type SessionOptions,
  type Tensor,
} from '../../src/engine/session.ts'
import { multiply, symbol } from '../../src/graph/dimension.ts'
import { graph, input, type Graph } from '../../src/graph/ir.ts'
import { Add, Concat, Gemm, Mul } from '../../src/graph/ops.ts'
import { Scope } from '../../src/graph/scope.ts'
import type { TensorLocation } from '../../src/weights/safetensors.ts'

const cpu: SessionOptions = { provider: 'cpu', threads: 1 }

/** x (N, 2) · weightᵀ (2, 3) + bias (3), and that twice over. */
function affine(): Graph {
  const x = input('x', 'float32', [symbol('N'), 2])
  const scope = Scope.root()
  const y = Gemm(x, scope.parameter('weight', [3, 2]), scope.parameter('bias', [3]), { transB: 1 })
  return graph('affine', [x], { y, twice: Concat([y, y], { axis: 0 }) })
}

let folder: string
let weights: Map<string, TensorLocation>

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), 'session-')))
  await mkdir(join(folder, 'a', 'deep'), { recursive: true })
  await mkdir(join(folder, 'b'))
  const weight = { file: join(folder, 'a', 'deep', 'weight.safetensors'), offset: 40, length: 24 }
  const bias = { file: join(folder, 'b', 'bias.bin'), offset: 0, length: 12 }
  await writeFile(
    weight.file,
    Buffer.concat([Buffer.alloc(40), Buffer.from(Float32Array.of(1, 2, 3, 4, 5, 6).buffer)]),
  )
  await writeFile(bias.file, Buffer.from(Float32Array.of(10, 20, 30).buffer))
  weights = new Map([
    ['weight', { ...weight, dtype: 'F32', shape: [3, 2] }],
    ['bias', { ...bias, dtype: 'F32', shape: [3] }],
  ])
})
afterAll(() => rm(folder, { recursive: true }))

const x = float32(Float32Array.of(1, 1, 2, -1), 2, 2)
const y = [13, 27, 41, 10, 22, 34]

describe('weights', () => {
  test('are read from several folders, at their offsets', async () => {
    const session = await Session.open(affine(), weights, cpu)
    const results = await session.run({ x })
    await session.close()
    expect(results.y).toEqual({ dtype: 'float32', dims: [2, 3], data: Float32Array.from(y) })
    expect(results.twice?.dims).toEqual([4, 3])
  })

  test('are found when only the root of the file system holds them all', async () => {
    const elsewhere = await realpath(await mkdtemp(join(process.cwd(), 'node_modules', '.session-')))
    const file = join(elsewhere, 'bias.bin')
    await writeFile(file, Buffer.from(Float32Array.of(0, 0, 100).buffer))
    try {
      const session = await Session.open(
        affine(),
        new Map([...weights, ['bias', { file, offset: 0, length: 12, dtype: 'F32', shape: [3] }]]),
        cpu,
      )
      expect((await session.run({ x })).y?.data).toEqual(Float32Array.of(3, 7, 111, 0, 2, 104))
      await session.close()
    } finally {
      await rm(elsewhere, { recursive: true })
    }
  })

  test('give the same numbers without prepacking', async () => {
    const session = await Session.open(affine(), weights, { ...cpu, prepacking: 'off' })
    expect((await session.run({ x })).y?.data).toEqual(Float32Array.from(y))
    await session.close()
  })

  test('may be fed at every run in part, and the rest stays in its files', async () => {
    const files = new Map([...weights].filter(([name]) => name === 'weight'))
    const session = await Session.open(affine(), partlyFed(affine(), files), cpu)
    const bias = (...values: number[]) => float32(Float32Array.from(values), 3)
    expect((await session.run({ x, bias: bias(0, 0, 0) })).y?.data).toEqual(
      Float32Array.of(3, 7, 11, 0, 2, 4),
    )
    expect((await session.run({ x, bias: bias(10, 20, 30) })).y?.data).toEqual(Float32Array.from(y))
    await expect(session.run({ x })).rejects.toMatchObject({
      message: 'affine, input bias: expected float32 (3), got nothing',
    })
    await session.close()
  })

  test('that are missing, of another type, or not in their file are named', async () => {
    const only = new Map([...weights].filter(([name]) => name === 'weight'))
    await expect(Session.open(affine(), only, cpu)).rejects.toMatchObject({
      code: 'bad_weights',
      message: 'affine: bias is missing',
    })
    const half = new Map([
      ...weights,
      [
        'bias',
        { file: join(folder, 'b', 'bias.bin'), offset: 0, length: 6, dtype: 'F16', shape: [3] } as const,
      ],
    ])
    await expect(Session.open(affine(), half, cpu)).rejects.toMatchObject({
      code: 'bad_weights',
      message: 'bias: expected float32, got float16',
    })
    const beyond = new Map([
      ...weights,
      [
        'bias',
        { file: join(folder, 'b', 'bias.bin'), offset: 4, length: 12, dtype: 'F32', shape: [3] } as const,
      ],
    ])
    await expect(Session.open(affine(), beyond, cpu)).rejects.toMatchObject({ code: 'runtime_failed' })
  })
})

describe('runs', () => {
  let session: Session
  beforeAll(async () => {
    session = await Session.open(affine(), weights, cpu)
  })
  afterAll(() => session.close())

  test('write an output into the buffer that is given for it', async () => {
    const buffer = new Float32Array(6)
    const results = await session.run({ x }, { into: { y: buffer } })
    expect(results.y?.data).toBe(buffer)
    expect(Array.from(buffer)).toEqual(y)
    expect(results.twice?.data.length).toBe(12)
  })

  test('refuse a buffer of another length', async () => {
    await expect(session.run({ x }, { into: { twice: new Float32Array(6) } })).rejects.toMatchObject({
      code: 'bad_feed',
      message: 'output twice: expected a buffer of 12, got one of 6',
    })
  })

  const wrong: readonly (readonly [string, Record<string, Tensor>, RegExp])[] = [
    ['a missing input', {}, /input x: expected float32 \(N, 2\), got nothing/],
    [
      'another rank',
      { x: float32(Float32Array.of(1, 2), 2) },
      /expected float32 \(N, 2\), got float32 \(2\)/,
    ],
    ['another size', { x: float32(new Float32Array(6), 2, 3) }, /expected 2 = 2 at axis 1/],
    ['another type', { x: int32(new Int32Array(4), 2, 2) }, /expected float32 \(N, 2\), got int32 \(2, 2\)/],
    [
      'too few elements',
      { x: float32(new Float32Array(3), 2, 2) },
      /expected float32 \(2, 2\), got 3 elements/,
    ],
    ['an unknown input', { x, z: x }, /input z: expected no such input/],
  ]
  test.each(wrong)('refuse %s', async (_, feeds, message) => {
    await expect(session.run(feeds)).rejects.toMatchObject({
      code: 'bad_feed',
      message: expect.stringMatching(message) as string,
    })
  })
})

test('inputs that share a symbol must agree on its size', async () => {
  const N = symbol('N')
  const [a, b] = [input('a', 'float32', [N]), input('b', 'float32', [multiply(N, 1)])]
  const session = await Session.open(graph('sum', [a, b], { c: Mul(Add(a, b), b) }), new Map(), cpu)
  const three = float32(Float32Array.of(1, 2, 3), 3)
  expect((await session.run({ a: three, b: three })).c?.data).toEqual(Float32Array.of(2, 8, 18))
  await expect(session.run({ a: three, b: float32(Float32Array.of(1), 1) })).rejects.toThrow(
    'N = 3 at axis 0',
  )
  await session.close()
})

test('a provider that the library does not know, and would drop silently, is refused', async () => {
  expect(availableProviders()).toContain('cpu')
  await expect(
    Session.open(affine(), weights, { ...cpu, provider: 'abacus' as Provider }),
  ).rejects.toMatchObject({
    code: 'provider_missing',
    message: expect.stringMatching(/^execution provider abacus: expected one of cpu/) as string,
  })
})
