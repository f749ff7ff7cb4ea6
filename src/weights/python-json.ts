/** Reads JSON files as Python's json module writes them: with `NaN`, `Infinity` and `-Infinity`, which JSON.parse refuses. */
import { WeightsError } from './errors.ts'
import { readWhole } from './files.ts'
import { isObject, JsonError, parseJson, type JsonObject } from './json.ts'

export interface JsonFile {
  readonly value: JsonObject
  /** The file's bytes, for a fingerprint. */
  readonly bytes: Uint8Array
}

/** @throws {WeightsError} no such file, no JSON, or no object at its top */
export async function readJsonObject(file: string): Promise<JsonFile> {
  const bytes = await readWhole(file)
  return { value: parseObject(bytes, file), bytes }
}

function parseObject(bytes: Uint8Array, file: string): JsonObject {
  try {
    const value = parseJson(
      new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes),
      'python',
    )
    if (isObject(value)) return value
    throw new WeightsError({ violation: 'json', file, expected: 'an object', got: 'JSON of another kind' })
  } catch (cause) {
    if (cause instanceof WeightsError) throw cause
    const { expected, got } =
      cause instanceof JsonError
        ? { expected: cause.expected, got: `${cause.got} (at character ${cause.position})` }
        : { expected: 'UTF-8', got: 'bytes that are none' }
    throw new WeightsError({ violation: 'json', file, expected, got, cause })
  }
}
