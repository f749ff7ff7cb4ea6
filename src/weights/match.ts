/** Strict loading: a model's parameters against what a checkpoint holds, every disagreement in one error. */
import { quote, WeightsError } from './errors.ts'
import { listing } from './listing.ts'
import type { TensorLocation } from './safetensors.ts'

export interface MatchOptions {
  /** Where the tensors come from, for the error. */
  readonly file?: string
  /** Expected name → names that other versions saved the same tensor under. */
  readonly aliases?: ReadonlyMap<string, readonly string[]>
  /** Names that may be there and may be missing, whether the model expects them or not. */
  readonly optional?: ReadonlySet<string>
}

/**
 * @param expected parameter name → shape
 * @returns a location for each expected name (those missing and optional left out), under the expected name
 * @throws {WeightsError} listing all missing, unexpected and misshapen tensors
 */
export function matchTensors(
  expected: ReadonlyMap<string, readonly number[]>,
  actual: ReadonlyMap<string, TensorLocation>,
  { file = 'the checkpoint', aliases = new Map(), optional = new Set() }: MatchOptions = {},
): ReadonlyMap<string, TensorLocation> {
  const matched = new Map<string, TensorLocation>()
  const known = new Set<string>(optional)
  const missing: string[] = []
  const misshapen: string[] = []
  for (const [name, shape] of expected) {
    const names = [name, ...(aliases.get(name) ?? [])]
    // Tied weights may be saved under several of their names.
    for (const each of names) known.add(each)
    const found = names.find((each) => actual.has(each))
    const location = found === undefined ? undefined : actual.get(found)
    if (found === undefined || location === undefined) {
      if (!optional.has(name)) missing.push(printable(name))
    } else if (sameShape(shape, location.shape)) {
      matched.set(name, location)
    } else {
      misshapen.push(`${printable(found)} [${location.shape.join(', ')}] instead of [${shape.join(', ')}]`)
    }
  }
  const unexpected = [...actual.keys()].filter((name) => !known.has(name)).map(printable)

  const wrong = [
    ...listing('missing', missing),
    ...listing('unexpected', unexpected),
    ...listing('misshapen', misshapen),
  ]
  if (wrong.length > 0) {
    throw new WeightsError({
      violation: 'keys',
      file,
      expected: `the model's ${expected.size} tensors`,
      got: `${actual.size} tensors that differ\n  ${wrong.join('\n  ')}`,
    })
  }
  return matched
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((side, i) => side === b[i])
}

function printable(name: string): string {
  return /^[\w.-]{1,160}$/.test(name) ? name : quote(name)
}
