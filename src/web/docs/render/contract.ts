/** openapi.yaml as the reference reads it: operations by tag, and where each schema is told of. */
import { load } from 'js-yaml'

export interface Schema {
  readonly $ref?: string
  readonly type?: string | readonly string[]
  readonly description?: string
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly items?: Schema
  readonly additionalProperties?: boolean | Schema
  readonly allOf?: readonly Schema[]
  readonly oneOf?: readonly Schema[]
  readonly enum?: readonly unknown[]
  readonly const?: unknown
  readonly default?: unknown
  readonly examples?: readonly unknown[]
  readonly format?: string
  readonly minimum?: number
  readonly maximum?: number
  readonly exclusiveMinimum?: number
  readonly exclusiveMaximum?: number
  readonly minLength?: number
  readonly maxLength?: number
  readonly minItems?: number
  readonly maxItems?: number
  readonly 'x-expected'?: string
}

export interface Parameter {
  readonly name: string
  readonly in: 'path' | 'query' | 'header'
  readonly required?: boolean
  readonly description?: string
  readonly schema: Schema
}

export interface Body {
  readonly description?: string
  readonly content?: Readonly<Record<string, Media>>
}

export interface Media {
  readonly schema?: Schema
  readonly examples?: Readonly<Record<string, { readonly summary?: string; readonly value: unknown }>>
}

export interface Operation {
  readonly operationId: string
  readonly method: string
  readonly path: string
  readonly tag: string
  readonly summary: string
  readonly description?: string
  readonly security: readonly Readonly<Record<string, readonly string[]>>[]
  readonly parameters: readonly Parameter[]
  readonly requestBody?: Body
  readonly responses: readonly { readonly status: string; readonly body: Body }[]
}

export interface Tag {
  readonly name: string
  readonly description: string
  readonly operations: readonly Operation[]
  /** Schemas that are told of here: it is the first tag whose operations speak of them. */
  readonly schemas: readonly string[]
}

export interface Contract {
  readonly title: string
  readonly description: string
  readonly server: string
  readonly tags: readonly Tag[]
  schema(name: string): Schema
  /** The tag under which a schema is told of; undefined for one that is told of where it is used. */
  homeOf(name: string): string | undefined
}

interface Document {
  readonly info: { readonly title: string; readonly description: string }
  readonly servers: readonly { readonly url: string }[]
  readonly tags: readonly { readonly name: string; readonly description: string }[]
  readonly paths: Readonly<Record<string, Readonly<Record<string, RawOperation>>>>
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> }
}

interface RawOperation extends Omit<Operation, 'method' | 'path' | 'tag' | 'parameters' | 'responses'> {
  readonly tags: readonly [string]
  readonly parameters?: readonly (Parameter | Reference)[]
  readonly responses: Readonly<Record<string, Body | Reference>>
}

interface Reference {
  readonly $ref: string
}

export const nameOf = ($ref: string): string => $ref.slice($ref.lastIndexOf('/') + 1)

/** @throws where it refers to what is not there */
export function readContract(yaml: string): Contract {
  const document = load(yaml) as Document
  const resolve = <T>(value: T | Reference): T => {
    if (typeof value !== 'object' || value === null || !('$ref' in value)) return value
    const steps = value.$ref.replace('#/', '').split('/')
    const found = steps.reduce<unknown>(
      (at, step) => (at as Record<string, unknown> | undefined)?.[step],
      document,
    )
    if (found === undefined) throw new Error(`openapi.yaml has no ${value.$ref}`)
    return found as T
  }
  const schema = (name: string): Schema => resolve<Schema>({ $ref: `#/components/schemas/${name}` })
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { tags, parameters = [], responses, ...rest }]): Operation => ({
      ...rest,
      method,
      path,
      tag: tags[0],
      parameters: parameters.map(resolve<Parameter>),
      responses: Object.entries(responses).map(([status, body]) => ({ status, body: resolve<Body>(body) })),
    })),
  )
  const homes = new Map<string, string>()
  const tags = document.tags.map(({ name, description }): Tag => {
    const own = operations.filter(({ tag }) => tag === name)
    const answers = own.flatMap(({ responses }) => responses.flatMap(({ body }) => refsIn(body)))
    const schemas: string[] = []
    const settle = (ref: string) => {
      const settled = schema(ref)
      if (homes.has(ref)) return
      if (isTold(settled)) {
        homes.set(ref, name)
        schemas.push(ref)
      }
      refsIn(settled).forEach(settle)
    }
    for (const ref of [...answers, ...own.flatMap(({ requestBody }) => requestRefs(requestBody, schema))])
      settle(ref)
    return { name, description, operations: own, schemas }
  })
  const { title, description } = document.info
  const server = document.servers[0]?.url ?? ''
  return { title, description, server, tags, schema, homeOf: (name) => homes.get(name) }
}

/** What has fields is told of once; a text of a few values is told of wherever it is used. */
const isTold = ({ properties, oneOf, allOf }: Schema): boolean => [properties, oneOf, allOf].some(Boolean)

/** A request's own schema is told of with its operation; what it is made of may have a place of its own. */
function requestRefs(body: Body | undefined, schema: (name: string) => Schema): string[] {
  return refsIn(body).flatMap((ref) => {
    const { allOf = [], ...own } = schema(ref)
    return [...refsIn(own), ...allOf.flatMap(({ $ref }) => ($ref ? refsIn(schema(nameOf($ref))) : []))]
  })
}

/** Names of the schemas that are spoken of directly. */
function refsIn(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return []
  if ('$ref' in value && typeof value.$ref === 'string')
    return value.$ref.startsWith('#/components/schemas/') ? [nameOf(value.$ref)] : []
  return Object.entries(value).flatMap(([key, part]) => (key.startsWith('example') ? [] : refsIn(part)))
}

/** Its fields, with those that it takes over from others, and which of them must be there. */
export function fieldsOf(
  { allOf = [], properties = {}, required = [] }: Schema,
  { schema }: Pick<Contract, 'schema'>,
): { readonly fields: Readonly<Record<string, Schema>>; readonly required: ReadonlySet<string> } {
  const others = allOf.map((part) =>
    fieldsOf(part.$ref === undefined ? part : schema(nameOf(part.$ref)), { schema }),
  )
  return {
    fields: Object.assign({}, ...others.map(({ fields }) => fields), properties) as Record<string, Schema>,
    required: new Set([...others.flatMap((other) => [...other.required]), ...required]),
  }
}
