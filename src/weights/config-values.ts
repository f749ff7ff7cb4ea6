/** Hyper-parameters out of a config.json, each of the kind that the model needs, or an error that names file and key. */
import { quote, WeightsError } from './errors.ts'
import type { JsonObject, JsonValue } from './json.ts'

/** `null` counts as absent, as in diffusers: then the fallback is taken, and where there is none, it is an error. */
export interface ConfigValues {
  /** A whole number from 0. */
  count(key: string, fallback?: number): number
  counts(key: string, fallback?: readonly number[]): readonly number[]
  /** Finite or not. */
  number(key: string, fallback?: number): number
  flag(key: string, fallback?: boolean): boolean
  oneOf<const T extends string>(key: string, names: readonly T[], fallback?: T): T
  has(key: string): boolean
}

/** @param file for errors */
export function configValues(config: JsonObject, file: string): ConfigValues {
  const read = <T>(
    key: string,
    expected: string,
    fallback: T | undefined,
    parse: (value: JsonValue) => T | undefined,
  ): T => {
    const value = config[key] ?? undefined
    const result = value === undefined ? fallback : parse(value)
    if (result !== undefined) return result
    const got = value === undefined ? 'nothing' : JSON.stringify(value)
    throw new WeightsError({ violation: 'json', file, expected: `${quote(key)} as ${expected}`, got })
  }
  return {
    count: (key, fallback) =>
      read(key, 'a whole number from 0', fallback, (value) => (isCount(value) ? value : undefined)),
    counts: (key, fallback) =>
      read(key, 'a list of whole numbers from 0', fallback, (value) =>
        Array.isArray(value) && value.every(isCount) ? value : undefined,
      ),
    number: (key, fallback) =>
      read(key, 'a number', fallback, (value) => (typeof value === 'number' ? value : undefined)),
    flag: (key, fallback) =>
      read(key, 'true or false', fallback, (value) => (typeof value === 'boolean' ? value : undefined)),
    oneOf: (key, names, fallback) =>
      read(key, `one of ${names.join(', ')}`, fallback, (value) => names.find((name) => name === value)),
    has: (key) => (config[key] ?? undefined) !== undefined,
  }
}

function isCount(value: JsonValue): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0
}
