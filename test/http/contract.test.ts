/** openapi.yaml against the code that it rules: one source, and the few lists that repeat it agree. */
import Fastify from 'fastify'
import { describe, expect, test } from 'vitest'
import { schedulerNames } from '../../src/diffusion/solvers.ts'
import { imageFormats } from '../../src/generation/parameters.ts'
import {
  listOperations,
  readContract,
  registerOperations,
  withDefaults,
  type Handlers,
} from '../../src/http/contract.ts'
import { errorCatalogue } from '../../src/http/errors.ts'
import { createAjv, type JsonSchema } from '../../src/http/validation.ts'

const contract = readContract()
const { schemas } = contract.document.components

interface Described {
  readonly requestBody?: {
    readonly content: Record<string, { readonly examples: Record<string, { readonly value: unknown }> }>
  }
  readonly responses: Record<string, unknown>
}

const operations = listOperations(contract.document).map((operation) => ({
  ...operation,
  ...(contract.document.paths[operation.path]?.[operation.method.toLowerCase()] as unknown as Described),
}))

const answers = Object.fromEntries(
  operations.map(({ operationId }) => [operationId, async () => ({})]),
) as unknown as Handlers

describe('a server whose handlers and contract differ does not start', () => {
  test('when an operation has no handler', async () => {
    const { getImage: _, ...others } = answers
    await expect(registerOperations(Fastify(), contract, others as unknown as Handlers)).rejects.toThrow(
      /without a handler: getImage$/,
    )
  })

  test('when a handler has no operation', async () => {
    const more = { ...answers, getMoon: async () => ({}) } as unknown as Handlers
    await expect(registerOperations(Fastify(), contract, more)).rejects.toThrow(/does not have: getMoon$/)
  })
})

const nonNull = (values: readonly unknown[] | undefined) => values?.filter((value) => value !== null)

test('the error codes are those of the catalogue, and the types too', () => {
  const error = schemas['Error']?.properties?.['error']?.properties
  expect(error?.['code']?.enum).toEqual(Object.keys(errorCatalogue))
  expect(new Set(Object.values(errorCatalogue).map(({ type }) => type))).toEqual(
    new Set(error?.['type']?.enum),
  )
})

test('schedulers and formats are those that the service knows', () => {
  const request = schemas['GenerateImagesRequest']?.properties
  expect(nonNull(request?.['scheduler']?.enum)?.toSorted()).toEqual([...schedulerNames].toSorted())
  expect(schemas['Model']?.properties?.['default_scheduler']?.enum).toEqual(
    nonNull(request?.['scheduler']?.enum),
  )
  expect(schemas['ImageParameters']?.properties?.['scheduler']?.enum).toEqual(
    nonNull(request?.['scheduler']?.enum),
  )
  expect(nonNull(request?.['output_format']?.enum)).toEqual(imageFormats)
  expect(schemas['OutputFormat']?.enum).toEqual(imageFormats)
})

test('every default is a valid value, and every parameter of a picture can be asked for', () => {
  const request = schemas['GenerateImagesRequest'] as JsonSchema
  const validate = createAjv().compile(request)
  const defaults = Object.entries(request.properties ?? {}).flatMap(([name, { default: value }]) =>
    value === undefined ? [] : [{ [name]: value }],
  )
  expect(defaults.length).toBeGreaterThan(0)
  expect(defaults.filter((body) => !validate({ prompt: 'x', ...body }))).toEqual([])
  expect(Object.keys(request.properties ?? {})).toEqual(
    expect.arrayContaining(Object.keys(schemas['ImageParameters']?.properties ?? {})),
  )
})

test('every example is valid', () => {
  const validate = createAjv().compile(schemas['GenerateImagesRequest'] as JsonSchema)
  const examples = operations.flatMap(({ requestBody }) =>
    Object.values(requestBody?.content['application/json']?.examples ?? {}),
  )
  expect(examples.length).toBeGreaterThan(0)
  expect(examples.filter(({ value }) => !validate(value))).toEqual([])
})

test('every operation declares what any error looks like', () => {
  expect(operations.filter(({ responses }) => !('default' in responses))).toEqual([])
})

test('defaults fill what is left out or null, and only that', () => {
  const filled = withDefaults(contract, 'GenerateImagesRequest', { prompt: 'x', n: null, steps: 7 }, [
    'n',
    'steps',
    'guidance_scale',
  ])
  expect(filled).toEqual({ n: 1, steps: 7, guidance_scale: 4.5 })
  expect(() => withDefaults(contract, 'GenerateImagesRequest', { prompt: 'x' }, ['seed'])).toThrow(
    /seed has no default/,
  )
})
