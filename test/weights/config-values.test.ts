import { describe, expect, test } from 'vitest'
import { configValues } from '../../src/weights/config-values.ts'
import { parseJson, type JsonObject } from '../../src/weights/json.ts'

const config =
  '{"layers": 2, "eps": 1e-6, "low": -Infinity, "bias": false, "act": "silu", "widths": [8, 16], "none": null}'
const values = configValues(parseJson(config, 'python') as JsonObject, '/m/config.json')

describe('configValues', () => {
  test('gives each kind as it stands', () => {
    expect(values.count('layers')).toBe(2)
    expect(values.number('eps')).toBe(1e-6)
    expect(values.number('low')).toBe(-Infinity)
    expect(values.flag('bias')).toBe(false)
    expect(values.oneOf('act', ['gelu', 'silu'])).toBe('silu')
    expect(values.counts('widths')).toEqual([8, 16])
  })

  test('absent and null take the fallback', () => {
    expect(values.count('none', 5)).toBe(5)
    expect(values.flag('absent', true)).toBe(true)
    expect([values.has('none'), values.has('absent'), values.has('layers')]).toEqual([false, false, true])
  })

  test.each([
    ['absent', () => values.count('absent'), 'expected "absent" as a whole number from 0, got nothing'],
    ['null', () => values.flag('none'), 'expected "none" as true or false, got nothing'],
    ['of another kind', () => values.count('eps'), 'expected "eps" as a whole number from 0, got 0.000001'],
    [
      'of another kind though there is a fallback',
      () => values.number('act', 1),
      'expected "act" as a number, got "silu"',
    ],
    [
      'not among the names',
      () => values.oneOf('act', ['gelu', 'relu']),
      'expected "act" as one of gelu, relu, got "silu"',
    ],
  ])('%s: an error with file and key', (_what, read, message) => {
    expect(read).toThrow(`/m/config.json: ${message}`)
  })
})
