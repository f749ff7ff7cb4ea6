import { describe, expect, test } from 'vitest'
import { WeightsError } from '../../src/weights/errors.ts'
import { matchTensors } from '../../src/weights/match.ts'
import type { TensorLocation } from '../../src/weights/safetensors.ts'

const at = (...shape: number[]): TensorLocation => ({ file: '/w', offset: 0, length: 0, dtype: 'F32', shape })

describe('matchTensors', () => {
  test('gives a location for every expected name', () => {
    const a = at(2, 3)
    const b = at()
    const matched = matchTensors(
      new Map([
        ['a', [2, 3]],
        ['b', []],
      ]),
      new Map([
        ['b', b],
        ['a', a],
      ]),
    )
    expect([...matched]).toEqual([
      ['a', a],
      ['b', b],
    ])
  })

  test('one error lists all that is missing, unexpected and misshapen, sorted', () => {
    const expected = new Map([
      ['d', [1]],
      ['c', [1]],
      ['b', [2, 3]],
      ['a', [4]],
    ])
    const actual = new Map([
      ['a', at(4)],
      ['b', at(3, 2)],
      ['z', at()],
      ['odd name\n', at()],
    ])
    expect(() => matchTensors(expected, actual, { file: '/models/x' })).toThrow(
      new WeightsError({
        violation: 'keys',
        file: '/models/x',
        expected: "the model's 4 tensors",
        got: [
          '4 tensors that differ',
          'missing 2: c, d',
          String.raw`unexpected 2: "odd name\n", z`,
          'misshapen 1: b [3, 2] instead of [2, 3]',
        ].join('\n  '),
      }),
    )
  })

  test('a long list is counted and cut', () => {
    const expected = new Map(
      Array.from({ length: 100 }, (_, i) => [`block.${String(i).padStart(2, '0')}`, [1]]),
    )
    expect(() => matchTensors(expected, new Map())).toThrow(
      /missing 100: block\.00, .*block\.11, … and 88 more$/,
    )
  })

  test('a tensor may go by the name of another version, and tied ones by several', () => {
    const aliases = new Map([
      ['to_q', ['query', 'q']],
      ['shared', ['encoder.embed']],
    ])
    const expected = new Map([
      ['to_q', [2]],
      ['shared', [3]],
    ])
    const query = at(2)
    const shared = at(3)
    const actual = new Map([
      ['query', query],
      ['shared', shared],
      ['encoder.embed', shared],
    ])
    expect([...matchTensors(expected, actual, { aliases })]).toEqual([
      ['to_q', query],
      ['shared', shared],
    ])
  })

  test('optional names may be there or not, expected or not, but not misshapen', () => {
    const optional = new Set(['bias', 'position_ids'])
    const expected = new Map([
      ['a', [1]],
      ['bias', [2]],
    ])
    const a = at(1)
    expect([
      ...matchTensors(
        expected,
        new Map([
          ['a', a],
          ['position_ids', at(9)],
        ]),
        { optional },
      ),
    ]).toEqual([['a', a]])
    expect(() =>
      matchTensors(
        expected,
        new Map([
          ['a', a],
          ['bias', at(3)],
        ]),
        { optional },
      ),
    ).toThrow(/misshapen 1: bias/)
  })
})
