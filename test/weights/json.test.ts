import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { JsonError, parseJson } from '../../src/weights/json.ts'
import { outcome } from './rejection.ts'

describe('both dialects', () => {
  test.each(['strict', 'python'] as const)('%s reads what JSON.stringify writes', (dialect) => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.constantFrom(0, 1, '\t', '\r\n'), (value, space) => {
        const text = JSON.stringify(value, undefined, space)
        expect(JSON.stringify(parseJson(text, dialect))).toBe(JSON.stringify(JSON.parse(text)))
      }),
    )
  })

  test.each(['strict', 'python'] as const)(
    '%s agrees with JSON.parse on every text without equal keys',
    (dialect) => {
      const tokens = String.raw`{ } [ ] , : " "a" 1 - . e5 01 true nul \ \n`.split(' ')
      const refused = { error: expect.any(JsonError) as JsonError }
      const token = fc.constantFrom(...tokens, ' ', '\n')
      fc.assert(
        fc.property(fc.array(token, { maxLength: 8 }), (tokens) => {
          const text = tokens.join('')
          const expected = outcome(() => JSON.stringify(JSON.parse(text)))
          const ours = outcome(() => JSON.stringify(parseJson(text, dialect)))
          fc.pre(
            !('error' in ours && ours.error instanceof JsonError && ours.error.reason === 'duplicate_key'),
          )
          expect(ours).toEqual('value' in expected ? expected : refused)
        }),
        { numRuns: 2000 },
      )
    },
  )

  test('depth is bounded, so that no text breaks the stack', () => {
    expect(() => parseJson('['.repeat(10_000_000), 'python')).toThrow(/at most 127 levels/)
    expect(parseJson('['.repeat(100) + ']'.repeat(100), 'strict')).toBeInstanceOf(Array)
  })

  test('a number of a million digits is refused, not pondered', () => {
    expect(() => parseJson('1'.repeat(1_000_000), 'strict')).toThrow(/expected a number/)
  })
})

describe('strict', () => {
  test('a key twice is an error that says where', () => {
    expect(() => parseJson('{"a": {"b": 1, "b": 2}}', 'strict')).toThrow(
      'at character 15: expected every key once, got "b" again',
    )
  })

  test('one key in two objects is none', () => {
    expect(parseJson('[{"a": 1}, {"a": 2}]', 'strict')).toEqual([{ a: 1 }, { a: 2 }])
  })

  test.each(['NaN', 'Infinity', '-Infinity'])('%s is no JSON', (text) => {
    expect(() => parseJson(text, 'strict')).toThrow(JsonError)
  })
})

describe('python', () => {
  test('the three numbers that JSON has not, outside of strings only', () => {
    const text = '{"a": -Infinity, "b": [Infinity, NaN], "c": "-Infinity", "d": "say \\"NaN\\""}'
    expect(parseJson(text, 'python')).toEqual({
      a: -Infinity,
      b: [Infinity, NaN],
      c: '-Infinity',
      d: 'say "NaN"',
    })
  })

  test('of equal keys the last counts', () => {
    expect(parseJson('{"a": 1, "a": 2}', 'python')).toEqual({ a: 2 })
  })

  test.each(['nan', '+Infinity', '-NaN', 'Inf', 'None'])('%s is refused, as Python does', (text) => {
    expect(() => parseJson(text, 'python')).toThrow(JsonError)
  })

  test('a key __proto__ is data', () => {
    const value = parseJson('{"__proto__": {"x": 1}}', 'python') as Record<string, unknown>
    expect(Object.keys(value)).toEqual(['__proto__'])
    expect(value.x).toBeUndefined()
  })
})
