/** Reads openapi.yaml, the one source of routes, validation and handler types, and puts handlers behind its operations. */
import { readFileSync } from 'node:fs'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import openapiGlue from 'fastify-openapi-glue'
import { load } from 'js-yaml'
import type { components, operations } from '../sdk/schema.ts'
import type { JsonSchema } from './validation.ts'

export type OperationId = keyof operations

type JsonBody<O extends OperationId> = operations[O] extends {
  requestBody: { content: { 'application/json': infer B } }
}
  ? B
  : undefined
type PathParams<O extends OperationId> = operations[O]['parameters'] extends { path: infer P } ? P : unknown
type QueryParams<O extends OperationId> = operations[O]['parameters'] extends { query?: infer Q }
  ? Q
  : unknown
/** Statuses of success with a body. */
type Contents<O extends OperationId> = {
  [S in 200 | 202]: operations[O]['responses'] extends { [K in S]: { content: infer C } } ? C : never
}[200 | 202]
type Answer<O extends OperationId> = [Contents<O>] extends [never] ? FastifyReply : AnswerIn<Contents<O>>
type AnswerIn<C> = C extends { 'application/json': infer A }
  ? A | (Exclude<keyof C, 'application/json'> extends never ? never : FastifyReply)
  : FastifyReply

export type ContractRequest<O extends OperationId> = FastifyRequest<{
  Body: JsonBody<O>
  Params: PathParams<O>
  Querystring: NonNullable<QueryParams<O>>
}>

/** Answers one operation: with its JSON body, or through `reply` where the answer is not JSON. */
export type Handler<O extends OperationId> = (
  request: ContractRequest<O>,
  reply: FastifyReply,
) => Promise<Answer<O>>
export type Handlers = { readonly [O in OperationId]: Handler<O> }

interface Operation {
  readonly operationId: string
  readonly requestBody?: { readonly content: Readonly<Record<string, unknown>> }
  /** Alternatives, each with its schemes and their scopes. */
  readonly security?: readonly Readonly<Record<string, readonly string[]>>[]
}

export interface ContractDocument {
  readonly paths: Readonly<Record<string, Readonly<Partial<Record<string, Operation>>>>>
  readonly components: { readonly schemas: Readonly<Record<string, JsonSchema>> }
}

export interface Contract {
  /** The file as it is, for those who ask for it. */
  readonly text: string
  readonly document: ContractDocument
}

export function readContract(): Contract {
  const text = readFileSync(new URL('../../openapi.yaml', import.meta.url), 'utf8')
  return { text, document: load(text) as ContractDocument }
}

const methods = ['get', 'put', 'post', 'delete', 'patch'] as const

/** @returns every operation of the document with its method and path */
export function listOperations({
  paths,
}: ContractDocument): (Pick<Operation, 'operationId' | 'security'> & { method: string; path: string })[] {
  return Object.entries(paths).flatMap(([path, item]) =>
    methods.flatMap((method) => {
      const operation = item[method]
      if (!operation) return []
      const { operationId, security } = operation
      return [{ method: method.toUpperCase(), path, operationId, ...(security && { security }) }]
    }),
  )
}

/** @returns the types of archive that an operation takes as they are, by operation */
export function archiveTypesOf({ paths }: ContractDocument): ReadonlyMap<string, readonly string[]> {
  const operations = Object.values(paths).flatMap((item) => Object.values(item))
  return new Map(
    operations.flatMap((operation) => {
      const types = Object.keys(operation?.requestBody?.content ?? {}).filter(
        (type) => type !== 'application/json',
      )
      return operation && types.length > 0 ? [[operation.operationId, types] as const] : []
    }),
  )
}

/**
 * Registers a route for every operation.
 * @throws when an operation has no handler, or a handler no operation: such a server must not start
 */
export async function registerOperations(
  app: FastifyInstance,
  { document }: Contract,
  handlers: Handlers,
): Promise<void> {
  const promised = new Set(listOperations(document).map(({ operationId }) => operationId))
  const missing = [...promised].filter((id) => !Object.hasOwn(handlers, id))
  const extra = Object.keys(handlers).filter((id) => !promised.has(id))
  if (missing.length > 0)
    throw new Error(`openapi.yaml promises operations without a handler: ${missing.join(', ')}`)
  if (extra.length > 0)
    throw new Error(`handlers for operations that openapi.yaml does not have: ${extra.join(', ')}`)
  await app.register(openapiGlue, { specification: jsonOnly(document), serviceHandlers: handlers })
}

/** Without media types that have no schema, those of pictures: the library warns that it cannot parse them, and we only send them. */
function jsonOnly(document: ContractDocument): ContractDocument {
  const copy: unknown = JSON.parse(JSON.stringify(document), (key, value: unknown) =>
    key.includes('/') && value !== null && typeof value === 'object' && Object.keys(value).length === 0
      ? undefined
      : value,
  )
  return copy as ContractDocument
}

/** @returns which operation a request asks for; undefined when none */
export const operationOf = ({ routeOptions }: Pick<FastifyRequest, 'routeOptions'>): string | undefined =>
  (routeOptions.schema as { operationId?: string } | undefined)?.operationId

/** @returns the methods that a path answers to, none when the contract does not know it */
export function methodsOf(document: ContractDocument, path: string): string[] {
  const known = listOperations(document)
    .filter((operation) =>
      new RegExp(`^${operation.path.replaceAll('.', '\\.').replaceAll(/\{\w+\}/g, '[^/]+')}$`).test(path),
    )
    .flatMap(({ method }) => (method === 'GET' ? ['GET', 'HEAD'] : [method]))
  return [...new Set(known)]
}

type Schemas = components['schemas']

/**
 * Fills what a body leaves out (or gives as null, which means the same) from the defaults of its schema.
 * @throws when the schema has no default for one of the names
 */
export function withDefaults<S extends keyof Schemas, K extends keyof Schemas[S] & string>(
  { document }: Contract,
  schemaName: S,
  body: Schemas[S],
  names: readonly K[],
): { [N in K]: NonNullable<Schemas[S][N]> } {
  const properties = document.components.schemas[schemaName]?.properties
  const filled = names.map((name) => {
    const value = body[name] ?? properties?.[name]?.default
    if (value === undefined) throw new Error(`${schemaName}.${name} has no default in openapi.yaml`)
    return [name, value]
  })
  return Object.fromEntries(filled) as { [N in K]: NonNullable<Schemas[S][N]> }
}
