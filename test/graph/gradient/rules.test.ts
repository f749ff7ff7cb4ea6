import fc from 'fast-check'
import { expect, test } from 'vitest'
import { symbol } from '../../../src/graph/dimension.ts'
import { rules } from '../../../src/graph/gradient/rules.ts'
import { constant, integers, scalar, type Value } from '../../../src/graph/ir.ts'
import * as ops from '../../../src/graph/ops.ts'
import { gradientError, noise, numberOf, symbolic, type Point } from './differences.ts'

const bound = 1e-3

type Draw = (dims: readonly number[], seed: number) => Point

/** Between −1 and 1. */
const anywhere: Draw = (dims, seed) => ({ dims, data: noise(numberOf(dims), seed) })
/** Between 0.5 and 1.5. */
const positive: Draw = (dims, seed) => ({ dims, data: noise(numberOf(dims), seed).map((x) => 1 + x / 2) })
/** Magnitudes between 0.2 and 1.2, so that no difference reaches over 0. */
const awayFromZero: Draw = (dims, seed) => ({
  dims,
  data: noise(numberOf(dims), seed).map((x) => x + (x < 0 ? -0.2 : 0.2)),
})

const size = fc.integer({ min: 1, max: 4 })
const seed = fc.nat({ max: 1e6 })

/** Shapes that broadcast to one another: some sizes are 1, some leading axes are missing. */
const broadcastable = (count: number) =>
  fc.array(fc.integer({ min: 2, max: 4 }), { maxLength: 3 }).chain((full) =>
    fc
      .array(
        fc.record({
          kept: fc.array(fc.boolean(), { minLength: 3, maxLength: 3 }),
          missing: fc.nat({ max: full.length }),
        }),
        {
          minLength: count,
          maxLength: count,
        },
      )
      .map((choices) =>
        choices.map(({ kept, missing }) => full.map((size, axis) => (kept[axis] ? size : 1)).slice(missing)),
      ),
  )

interface Check {
  readonly operator: keyof typeof rules
  /** Holds the rule against differences on random cases; the worst error. */
  readonly hold: () => Promise<number>
}
const checks: Check[] = []

function check<Case>(
  operator: keyof typeof rules,
  cases: fc.Arbitrary<Case>,
  errorOf: (drawn: Case) => Promise<number>,
  { runs = 12 }: { readonly runs?: number } = {},
): void {
  const hold = async (): Promise<number> => {
    let worst = 0
    await fc.assert(
      fc.asyncProperty(cases, async (drawn) => {
        const error = await errorOf(drawn)
        if (!(error <= bound)) throw new Error(`the relative error is ${error}`)
        worst = Math.max(worst, error)
      }),
      { numRuns: runs, seed: 5 },
    )
    return worst
  }
  checks.push({ operator, hold })
}

function unary(operator: keyof typeof rules, f: (x: Value) => Value, draw: Draw = anywhere): void {
  check(
    operator,
    fc.record({ dims: fc.array(size, { maxLength: 3 }), seed, known: fc.boolean() }),
    ({ dims, seed, known }) => gradientError(f, [draw(dims, seed)], known ? {} : { shapeOf: symbolic }),
  )
}

function binary(
  operator: keyof typeof rules,
  f: (a: Value, b: Value) => Value,
  first: Draw = anywhere,
  second: Draw = first,
): void {
  check(
    operator,
    fc.record({ shapes: broadcastable(2), seed, known: fc.boolean() }),
    ({ shapes, seed, known }) => {
      const [a = [], b = []] = shapes
      return gradientError(f, [first(a, seed), second(b, seed + 1)], known ? {} : { shapeOf: symbolic })
    },
    { runs: 25 },
  )
}

// Elementwise.
{
  unary('Abs', ops.Abs, awayFromZero)
  unary('Cast', (x) => ops.Cast(ops.Identity(x), 'float32'))
  unary('Cos', ops.Cos)
  unary('Erf', ops.Erf)
  unary('Exp', ops.Exp)
  unary('Identity', ops.Identity)
  unary('Log', ops.Log, positive)
  unary('Neg', ops.Neg)
  unary('Reciprocal', ops.Reciprocal, positive)
  unary('Sigmoid', ops.Sigmoid)
  unary('Sign', (x) => ops.Add(x, ops.Sign(x)), awayFromZero)
  unary('Sin', ops.Sin)
  unary('Sqrt', ops.Sqrt, positive)
  unary('Tanh', ops.Tanh)
  unary('Gelu', (x) =>
    ops.Add(ops.Gelu(x, { approximate: 'tanh' }), ops.Gelu(ops.Neg(x), { approximate: 'none' })),
  )
  check(
    'com.microsoft.FastGelu',
    fc.record({ dims: fc.array(size, { minLength: 1, maxLength: 3 }), seed }),
    async ({ dims, seed }) =>
      Math.max(
        await gradientError((x) => ops.FastGelu(x), [anywhere(dims, seed)]),
        await gradientError(
          (x, bias) => ops.FastGelu(x, bias),
          [anywhere(dims, seed), anywhere(dims.slice(-1), seed + 1)],
        ),
      ),
  )
  unary(
    'Clip',
    (x) => ops.Clip(x, scalar(-0.13), scalar(0.13)),
    (dims, seed) => ({
      dims,
      // Away from the bounds by more than the differences reach.
      data: noise(numberOf(dims), seed).map((x) => Math.round(x * 4) / 4),
    }),
  )

  binary('Add', ops.Add)
  binary('Sub', ops.Sub)
  binary('Mul', ops.Mul)
  binary('Div', ops.Div, anywhere, (dims, seed) => ({
    dims,
    data: positive(dims, seed).data.map((x, i) => (i % 2 ? -x : x)),
  }))
  binary('Pow', ops.Pow, positive)
  unary('Pow', (x) => ops.Pow(x, scalar(2)))
  const steps =
    (offset: number): Draw =>
    (dims, seed) => ({ dims, data: noise(numberOf(dims), seed).map((x) => Math.round(x * 4) / 4 + offset) })
  binary('Max', ops.Max, steps(0), steps(0.125))
  binary('Min', ops.Min, steps(0), steps(0.125))

  check(
    'Where',
    fc.record({ shapes: broadcastable(3), seed }),
    ({ shapes: [a = [], b = [], c = []], seed }) => {
      const condition = constant(
        'bool',
        a,
        noise(numberOf(a), seed + 2).map((x) => (x > 0 ? 1 : 0)),
      )
      return gradientError(
        (yes, no) => ops.Where(condition, yes, no),
        [anywhere(b, seed), anywhere(c, seed + 1)],
      )
    },
    { runs: 25 },
  )
}

// Products.
{
  const flip = fc.constantFrom<0 | 1>(0, 1)
  const sides = fc.record({
    m: size,
    k: size,
    n: size,
    transA: flip,
    transB: flip,
    seed,
    known: fc.boolean(),
  })
  const matrix = (rows: number, columns: number, flipped: 0 | 1): number[] =>
    flipped ? [columns, rows] : [rows, columns]

  check(
    'Gemm',
    fc.record({ sides, bias: broadcastable(1) }),
    ({ sides: { m, k, n, transA, transB, seed, known } }) =>
      gradientError(
        (a, b, c) => ops.Gemm(a, b, c, { transA, transB }),
        [
          anywhere(matrix(m, k, transA), seed),
          anywhere(matrix(k, n, transB), seed + 1),
          anywhere(seed % 2 ? [n] : [1, n], seed + 2),
        ],
        known ? {} : { shapeOf: symbolic },
      ),
  )
  check(
    'com.microsoft.FusedMatMul',
    fc.record({ sides, lead: fc.tuple(size, size) }),
    ({ sides: { m, k, n, transA, transB, seed }, lead }) =>
      gradientError(
        (a, b) => ops.FusedMatMul(a, b, { transA, transB, alpha: { float: 0.7 } }),
        [
          anywhere([...lead, ...matrix(m, k, transA)], seed),
          anywhere([...lead, ...matrix(k, n, transB)], seed + 1),
        ],
      ),
  )
  check(
    'MatMul',
    fc.record({ sides, leads: broadcastable(2) }),
    ({ sides: { m, k, n, seed }, leads: [a = [], b = []] }) =>
      gradientError(
        (x, y) => ops.MatMul(x, y),
        [anywhere([...a, m, k], seed), anywhere([...b, k, n], seed + 1)],
      ),
    { runs: 25 },
  )
  check(
    'Conv',
    fc.record({
      batch: fc.integer({ min: 1, max: 2 }),
      channels: fc.integer({ min: 1, max: 2 }),
      out: fc.integer({ min: 1, max: 2 }),
      kernel: fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 3 })),
      extent: fc.tuple(fc.integer({ min: 3, max: 5 }), fc.integer({ min: 3, max: 5 })),
      strides: fc.constantFrom([1, 1], [2, 2], [1, 2]),
      pads: fc.constantFrom([0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]),
      seed,
    }),
    ({ batch, channels, out, kernel, extent, strides, pads, seed }) =>
      gradientError(
        (x, weight, bias) =>
          ops.Conv(x, weight, bias, {
            strides,
            pads: pads.map((pad, i) => Math.min(pad, kernel[i % 2]! - 1)),
          }),
        [
          anywhere([batch, channels, ...extent], seed),
          anywhere([out, channels, ...kernel], seed + 1),
          anywhere([out], seed + 2),
        ],
      ),
    { runs: 25 },
  )
}

// Normalisations and reductions.
{
  const shaped = fc.record({
    dims: fc.array(fc.integer({ min: 2, max: 5 }), { minLength: 2, maxLength: 3 }),
    seed,
    known: fc.boolean(),
  })
  const rows = (known: boolean) =>
    known
      ? {}
      : {
          shapeOf: (dims: readonly number[]) =>
            dims.length < 2 ? dims : [...symbolic(dims.slice(0, -1)), dims.at(-1)!],
        }
  check('Softmax', shaped, ({ dims, seed }) =>
    gradientError((x) => ops.Softmax(x, { axis: seed % 2 ? -1 : 0 }), [anywhere(dims, seed)]),
  )
  check('LayerNormalization', shaped, async ({ dims, seed, known }) => {
    const width = [dims.at(-1)!]
    const whole = await gradientError(
      (x, scale, bias) => ops.LayerNormalization(x, scale, bias, 1e-2)[0]!,
      [anywhere(dims, seed), positive(width, seed + 1), anywhere(width, seed + 2)],
      rows(known),
    )
    const ones = constant(
      'float32',
      width,
      Array.from({ length: width[0]! }, () => 1),
    )
    const plain = await gradientError(
      (x) => ops.LayerNormalization(x, ones, undefined, 1e-2)[0]!,
      [anywhere(dims, seed)],
      rows(known),
    )
    return Math.max(whole, plain)
  })
  check('SimplifiedLayerNormalization', shaped, ({ dims, seed, known }) =>
    gradientError(
      (x, scale) => ops.SimplifiedLayerNormalization(x, scale, 1e-2),
      [anywhere(dims, seed), positive([dims.at(-1)!], seed + 1)],
      rows(known),
    ),
  )
  check(
    'InstanceNormalization',
    fc.record({ dims: fc.tuple(size, size, fc.integer({ min: 3, max: 5 }), size), seed }),
    async ({ dims: [batch, channels, ...spatial], seed }) => {
      const x = anywhere([batch, channels, ...spatial], seed)
      const whole = await gradientError(
        (x, scale, bias) => ops.InstanceNormalization(x, scale, bias, 1e-2),
        [x, positive([channels], seed + 1), anywhere([channels], seed + 2)],
      )
      const filled = (value: number): Value =>
        constant(
          'float32',
          [channels],
          Array.from({ length: channels }, () => value),
        )
      return Math.max(
        whole,
        await gradientError((x) => ops.InstanceNormalization(x, filled(1), filled(0), 1e-2), [x]),
      )
    },
  )
  const reduced = fc.record({
    dims: fc.tuple(size, size, size),
    axes: fc.constantFrom([0], [-1], [0, 2], [0, 1, 2], [1]),
    keepdims: fc.constantFrom<0 | 1>(0, 1),
    seed,
    known: fc.boolean(),
  })
  for (const [name, reduce] of [
    ['ReduceMean', ops.ReduceMean],
    ['ReduceSum', ops.ReduceSum],
  ] as const) {
    check(name, reduced, ({ dims, axes, keepdims, seed, known }) =>
      gradientError(
        (x) => reduce(ops.Mul(x, x), axes, { keepdims }),
        [anywhere(dims, seed)],
        known ? {} : { shapeOf: symbolic },
      ),
    )
  }
}

// Moving elements.
{
  const three = fc.record({ dims: fc.tuple(size, size, size), seed, known: fc.boolean() })
  const told = (known: boolean) => (known ? {} : { shapeOf: symbolic })
  /** So that the cotangent is not the same everywhere before it moves. */
  const curved = (x: Value): Value => ops.Mul(x, ops.Sin(x))

  check('Reshape', three, ({ dims, seed, known }) =>
    gradientError((x) => curved(ops.Reshape(x, integers(0, -1))), [anywhere(dims, seed)], told(known)),
  )
  check('Transpose', three, ({ dims, seed, known }) =>
    gradientError((x) => curved(ops.Transpose(x, [2, 0, 1])), [anywhere(dims, seed)], told(known)),
  )
  check(
    'Expand',
    fc.record({ shapes: broadcastable(2), seed, known: fc.boolean() }),
    ({ shapes: [a = [], b = []], seed, known }) =>
      gradientError(
        (x, like) => ops.Mul(ops.Expand(x, ops.Shape(like)), ops.Sin(like)),
        [anywhere(a, seed), anywhere(b, seed)],
        told(known),
      ),
  )
  check('Unsqueeze', three, ({ dims, seed, known }) =>
    gradientError((x) => curved(ops.Unsqueeze(x, [0, 2])), [anywhere(dims, seed)], told(known)),
  )
  check('Squeeze', three, ({ dims: [a, , b], seed, known }) =>
    gradientError((x) => curved(ops.Squeeze(x, [1])), [anywhere([a, 1, b], seed)], told(known)),
  )
  check('Concat', three, ({ dims: [a, b, c], seed, known }) =>
    gradientError(
      (x, y, z) => curved(ops.Concat([x, y, z], { axis: 1 })),
      [anywhere([a, b, 2], seed), anywhere([a, c, 2], seed + 1), anywhere([a, 3, 2], seed + 2)],
      told(known),
    ),
  )
  check('Split', three, ({ dims: [a, b, c], seed }) =>
    gradientError(
      (x) => {
        const [first, , third] = ops.Split(x, { axis: 1, num_outputs: 3 })
        const [, rest] = ops.SplitAt(x, integers(b, 2 * b), { axis: 1 })
        return ops.Concat([ops.Mul(first!, curved(third!)), curved(rest!)], { axis: 1 })
      },
      [anywhere([a, 3 * b, c], seed)],
    ),
  )
  check('Slice', three, ({ dims: [a, b, c], seed, known }) => {
    const [rows, columns] = [a + 3, c + 2]
    return gradientError(
      (x) => curved(ops.Slice(x, [1, 0], [-1, Number.MAX_SAFE_INTEGER], [0, 2])),
      [anywhere([rows, b, columns], seed)],
      told(known),
    )
  })
  check('Pad', three, ({ dims, seed, known }) =>
    gradientError((x) => curved(ops.Pad(x, [1, 0, 2, 0, 0, 1])), [anywhere(dims, seed)], told(known)),
  )
  check(
    'Gather',
    fc.record({
      dims: fc.tuple(size, size, size),
      axis: fc.nat({ max: 2 }),
      count: fc.integer({ min: 1, max: 6 }),
      seed,
      known: fc.boolean(),
    }),
    ({ dims, axis, count, seed, known }) => {
      const places = Array.from(noise(2 * count, seed + 1), (x) => Math.floor(((x + 1) / 2) * dims[axis]!))
      return gradientError(
        (x) => curved(ops.Gather(x, constant('int64', [2, count], places), { axis })),
        [anywhere(dims, seed)],
        told(known),
      )
    },
    { runs: 25 },
  )
  check(
    'Resize',
    fc.record({
      dims: fc.tuple(size, size, size, size),
      factors: fc.constantFrom([2, 2], [1, 3], [1, 1]),
      seed,
      known: fc.boolean(),
    }),
    ({ dims, factors, seed, known }) =>
      gradientError(
        (x) =>
          curved(
            ops.Resize(x, constant('float32', [4], [1, 1, ...factors]), {
              mode: 'nearest',
              coordinate_transformation_mode: 'asymmetric',
              nearest_mode: 'floor',
            }),
          ),
        [anywhere(dims, seed)],
        known
          ? {}
          : {
              shapeOf: (sizes) =>
                [sizes[0]!, sizes[1]!, symbol('s4'), symbol('s3')].map((symbolic, i) =>
                  i < 2 ? symbolic : sizes[i]!,
                ),
            },
      ),
  )
}

test.each(checks)('the gradient of $operator agrees with central differences', async ({ hold }) => {
  expect(await hold()).toBeLessThanOrEqual(bound)
})

test('no rule is untested', () => {
  expect([...new Set(checks.map(({ operator }) => operator))].toSorted()).toEqual(
    Object.keys(rules).toSorted(),
  )
})
