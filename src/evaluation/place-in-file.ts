/** Reads parsed JSON value by value, so that what is wrong is told with its place. */
import { SuiteError } from './suite.ts'

export class PlaceInFile {
  readonly #file: string
  readonly #path: string
  readonly #value: unknown

  /** @param path from the root of the file, which has none */
  constructor(file: string, value: unknown, path = '') {
    this.#file = file
    this.#path = path
    this.#value = value
  }

  /** @throws {SuiteError} when another field is there, or one of `required` is not */
  fields<R extends string, O extends string = never>(
    required: readonly R[],
    optional: readonly O[] = [],
  ): { readonly [N in R]: PlaceInFile } & { readonly [N in O]: PlaceInFile | undefined } {
    const value = this.#value
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return this.fail('a JSON object')
    const known: readonly string[] = [...required, ...optional]
    const unknown = Object.keys(value).find((name) => !known.includes(name))
    if (unknown !== undefined)
      throw this.#error(this.#within(unknown), `expected only ${known.join(', ')}; there is no such field`)
    const missing = required.find((name) => !Object.hasOwn(value, name))
    if (missing !== undefined) throw this.#error(this.#within(missing), 'expected a value, got nothing')
    return Object.fromEntries(
      Object.entries(value).map(([name, each]) => [
        name,
        new PlaceInFile(this.#file, each, this.#within(name)),
      ]),
    ) as ReturnType<typeof this.fields<R, O>>
  }

  list(): readonly PlaceInFile[] {
    if (!Array.isArray(this.#value)) return this.fail('a list')
    return this.#value.map((each, at) => new PlaceInFile(this.#file, each, `${this.#path}[${at}]`))
  }

  /** @returns at least one */
  filledList(): readonly [PlaceInFile, ...PlaceInFile[]] {
    const [first, ...others] = this.list()
    return first ? [first, ...others] : this.fail('a list of at least one')
  }

  text(): string {
    const value = this.#value
    return typeof value === 'string' && value.trim() !== '' ? value : this.fail('a text')
  }

  whole(least: number, most: number): number {
    const value = this.#value
    return Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most
      ? (value as number)
      : this.fail(`a whole number from ${least} to ${most}`)
  }

  number(least = -Infinity, most = Infinity): number {
    const value = this.#value
    if (typeof value === 'number' && value >= least && value <= most) return value
    return this.fail(Number.isFinite(most) ? `a number from ${least} to ${most}` : 'a number')
  }

  /** @throws {SuiteError} naming the place and what came */
  fail(expected: string): never {
    throw this.#error(this.#path, `expected ${expected}, got ${shown(this.#value)}`)
  }

  #within(name: string): string {
    return this.#path === '' ? name : `${this.#path}.${name}`
  }

  #error(path: string, message: string): SuiteError {
    return new SuiteError([this.#file, path, message].filter((part) => part !== '').join(': '))
  }
}

const longestShown = 60

function shown(value: unknown): string {
  if (Array.isArray(value)) return `a list of ${value.length}`
  if (typeof value === 'object' && value !== null) return 'an object'
  if (typeof value === 'string' && value.length > longestShown) return `a text of ${value.length} characters`
  return JSON.stringify(value)
}
