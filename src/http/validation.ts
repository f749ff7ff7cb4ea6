/** Checks requests against their schemas, without coercion or stripping, and says which field expected what and what came. */
import { Ajv2020, type ErrorObject, type ValidateFunction } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import type { FastifySchemaCompiler } from 'fastify'
import { ApiError, type ErrorCode } from './errors.ts'

export interface JsonSchema {
  readonly type?: string | readonly string[]
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly allOf?: readonly JsonSchema[]
  readonly $ref?: string
  readonly enum?: readonly unknown[]
  readonly const?: unknown
  readonly default?: unknown
  readonly minimum?: number
  readonly maximum?: number
  readonly minLength?: number
  readonly maxLength?: number
  /** Our own: what a valid value is, where the keywords do not say it well. */
  readonly 'x-expected'?: string
}

/** A validator of the dialect that OpenAPI 3.1 uses: JSON Schema 2020-12. */
export function createAjv(): Ajv2020 {
  const ajv = new Ajv2020({
    coerceTypes: false,
    removeAdditional: false,
    useDefaults: false,
    allErrors: false,
    verbose: true,
    allowUnionTypes: true,
  })
  ajv.addVocabulary(['x-expected', 'example'])
  addFormats.default(ajv, ['date-time'])
  return ajv
}

/**
 * The `setValidatorCompiler` of the app. Node gives header names in lower case, so their schemas are read that way too; a
 * query is text, so what is written there like a whole number is one where one is expected.
 */
export function validatorCompiler(ajv: Ajv2020): FastifySchemaCompiler<JsonSchema> {
  return ({ schema, httpPart = 'body' }) => {
    switch (httpPart) {
      case 'headers': {
        const names = Object.keys(schema.properties ?? {})
        const spelling = new Map(names.map((name) => [name.toLowerCase(), name]))
        return checker(ajv.compile(withLowerCaseNames(schema)), httpPart, spelling)
      }
      case 'querystring': {
        const check = checker(ajv.compile(schema), httpPart)
        return (query: Readonly<Record<string, unknown>>) => check(withNumbers(query, schema))
      }
      default:
        return checker(ajv.compile(schema), httpPart)
    }
  }
}

function withNumbers(query: Readonly<Record<string, unknown>>, { properties }: JsonSchema): unknown {
  const read = ([name, value]: [string, unknown]) => {
    const isNumber =
      properties?.[name]?.type === 'integer' && typeof value === 'string' && /^-?\d+$/.test(value)
    return [name, isNumber ? Number(value) : value]
  }
  return Object.fromEntries(Object.entries(query).map(read))
}

/** @param spelling how the contract spells the names that the schema has in lower case */
function checker(
  validate: ValidateFunction,
  part: string,
  spelling: ReadonlyMap<string, string> = new Map(),
) {
  return (value: unknown): { value: unknown } | { error: Error } => {
    if (validate(value)) return { value }
    const [error] = validate.errors ?? []
    if (!error) throw new Error('a schema refused a value without saying why')
    return { error: describeViolation(error, part, spelling) }
  }
}

function withLowerCaseNames(schema: JsonSchema): JsonSchema {
  const properties = Object.entries(schema.properties ?? {}).map(([name, value]) => [
    name.toLowerCase(),
    value,
  ])
  return { ...schema, properties: Object.fromEntries(properties) as Record<string, JsonSchema> }
}

const codes: Partial<Record<string, ErrorCode>> = {
  type: 'invalid_type',
  required: 'missing_required_parameter',
  additionalProperties: 'unknown_parameter',
  unevaluatedProperties: 'unknown_parameter',
}

function describeViolation(
  error: ErrorObject,
  part: string,
  spelling: ReadonlyMap<string, string>,
): ApiError {
  const schema = error.parentSchema as JsonSchema
  const pointer = error.instancePath.slice(1)
  const path = spelling.get(pointer) ?? pointer.replaceAll('/', '.')
  const code = codes[error.keyword] ?? 'invalid_value'
  const within = (name: string) => (path === '' ? name : `${path}.${name}`)

  if (code === 'unknown_parameter') {
    const { additionalProperty: name, unevaluatedProperty = name } = error.params
    const param = shorten(within(String(unevaluatedProperty)))
    const known = Object.keys(propertiesOf(schema)).join(', ')
    return new ApiError(code, `${param}: expected only ${known}; there is no such field`, { param })
  }
  if (error.keyword === 'required') {
    const param = within(String(error.params['missingProperty']))
    const missing = schema.properties?.[param]
    return new ApiError(
      code,
      `${param}: expected ${missing ? describeExpected(missing) : 'a value'}, got nothing`,
      { param },
    )
  }
  const param = path === '' ? part : path
  return new ApiError(
    code,
    `${param}: expected ${describeExpected(schema)}, got ${describeValue(error.data)}`,
    { param },
  )
}

/** @param schema without references @returns all its fields, those of its parts first */
export function propertiesOf({
  allOf = [],
  properties = {},
}: JsonSchema): Readonly<Record<string, JsonSchema>> {
  return Object.assign({}, ...allOf.map(propertiesOf), properties) as Record<string, JsonSchema>
}

const typeNames: Record<string, string> = {
  string: 'a text',
  integer: 'a whole number',
  number: 'a number',
  boolean: 'true or false',
  object: 'a JSON object',
  array: 'a list',
}

/** @returns what a valid value is, in words; `null`, which only means "left out", goes unmentioned */
export function describeExpected(schema: JsonSchema): string {
  if (schema['x-expected'] !== undefined) return schema['x-expected']
  if (schema.enum) {
    const values = schema.enum.filter((value) => value !== null).map((value) => JSON.stringify(value))
    return values.length === 1 ? String(values[0]) : `one of ${values.join(', ')}`
  }
  const type = [schema.type].flat().find((name) => name !== 'null') ?? 'object'
  const { minimum, maximum, minLength, maxLength } = schema
  const range = minimum === undefined || maximum === undefined ? '' : ` from ${minimum} to ${maximum}`
  const length = maxLength === undefined ? '' : ` of ${minLength ?? 0} to ${maxLength} characters`
  return `${typeNames[type] ?? type}${range}${length}`
}

const longestShown = 60

/** @returns the text as far as it belongs into a message */
export function shorten(text: string): string {
  return text.length <= longestShown ? text : `${text.slice(0, longestShown).toWellFormed()}…`
}

/** @returns the value as the client sent it where that is short, otherwise what it is */
export function describeValue(value: unknown): string {
  if (value === null || typeof value === 'number' || typeof value === 'boolean') return String(value)
  if (Array.isArray(value)) return `a list of ${value.length}`
  if (typeof value !== 'string') return 'an object'
  return value.length <= longestShown
    ? JSON.stringify(value)
    : `a text of ${Array.from(value).length} characters`
}
