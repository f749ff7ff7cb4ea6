/** Reads a checkpoint's `config.json` field by field, so that a wrong one is named when the model is opened. */

export class ModelConfigError extends Error {
  override readonly name = 'ModelConfigError'
}

/** A parsed config.json. */
export type ConfigFields = Readonly<Record<string, unknown>>

export class ConfigReader {
  readonly #component: string
  readonly #fields: ConfigFields

  constructor(component: string, fields: ConfigFields) {
    this.#component = component
    this.#fields = fields
  }

  integer(name: string, fallback?: number): number {
    const value = this.#value(name, fallback)
    return Number.isSafeInteger(value) && (value as number) > 0 ? (value as number) : this.#fail(name, 'a whole number above 0', value)
  }

  number(name: string, fallback?: number): number {
    const value = this.#value(name, fallback)
    return typeof value === 'number' ? value : this.#fail(name, 'a number', value)
  }

  boolean(name: string, fallback?: boolean): boolean {
    const value = this.#value(name, fallback)
    return typeof value === 'boolean' ? value : this.#fail(name, 'true or false', value)
  }

  integers(name: string): readonly number[] {
    const value = this.#value(name, undefined)
    const valid = Array.isArray(value) && value.length > 0 && value.every((item) => Number.isSafeInteger(item) && item > 0)
    return valid ? value : this.#fail(name, 'a list of whole numbers above 0', value)
  }

  /** Fails unless the field, or what the reference implementation assumes where it is missing, is what the model's code covers. */
  require(name: string, supported: unknown, assumed: unknown = null): void {
    const value = this.#value(name, assumed)
    if (value !== supported) this.#fail(name, JSON.stringify(supported), value)
  }

  /** Fails unless the field's value meets a condition that depends on other fields. */
  demand(name: string, expected: string, holds: (value: unknown) => boolean): void {
    const value = this.#value(name, null)
    if (!holds(value)) this.#fail(name, expected, value)
  }

  /** Fails unless every item of the list is this one. */
  requireEach(name: string, supported: string): void {
    const value = this.#fields[name] ?? []
    if (!Array.isArray(value) || value.some((item) => item !== supported)) this.#fail(name, `nothing but ${supported}`, value)
  }

  /** The hub's configurations write null where the default is meant. */
  #value(name: string, fallback: unknown): unknown {
    return this.#fields[name] ?? fallback
  }

  #fail(name: string, expected: string, came: unknown): never {
    throw new ModelConfigError(`${this.#component} config, ${name}: expected ${expected}, got ${JSON.stringify(came)}`)
  }
}
