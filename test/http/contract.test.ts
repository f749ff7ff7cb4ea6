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
import { priorities } from '../../src/engine/pool.ts'
import { errorCatalogue } from '../../src/http/errors.ts'
import { fieldsOf, validatorOf } from './schemas.ts'

const contract = readContract()

interface Described {
  readonly requestBody?: {
    readonly content: Record<
      string,
      {
        readonly schema: { readonly $ref: string }
        readonly examples: Record<string, { readonly value: unknown }>
      }
    >
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
  const error = fieldsOf('Error')['error']?.properties
  expect(error?.['code']?.enum).toEqual(Object.keys(errorCatalogue))
  expect(new Set(Object.values(errorCatalogue).map(({ type }) => type))).toEqual(
    new Set(error?.['type']?.enum),
  )
})

test('schedulers and formats are those that the service knows', () => {
  const request = fieldsOf('PictureRequest')
  const schedulers = nonNull(request['scheduler']?.enum)
  expect(schedulers?.toSorted()).toEqual([...schedulerNames].toSorted())
  expect(fieldsOf('Model')['default_scheduler']?.enum).toEqual(schedulers)
  expect(fieldsOf('ImageParameters')['scheduler']?.enum).toEqual(schedulers)
  expect(nonNull(request['output_format']?.enum)).toEqual(imageFormats)
  expect(fieldsOf('ImageParameters')['output_format']?.enum).toEqual(imageFormats)
})

test('priorities are those that the service knows', () => {
  expect(nonNull(fieldsOf('CreateGenerationRequest')['priority']?.enum)).toEqual(priorities)
  expect(fieldsOf('Generation')['priority']?.enum).toEqual(priorities)
})

const requests = ['GenerateImagesRequest', 'CreateGenerationRequest']

test.each(requests)(
  'every default of %s is valid, and every parameter of a picture can be asked for',
  (name) => {
    const validate = validatorOf(name)
    const defaults = Object.entries(fieldsOf(name)).flatMap(([field, { default: value }]) =>
      value === undefined ? [] : [{ [field]: value }],
    )
    expect(defaults.length).toBeGreaterThan(0)
    expect(defaults.filter((body) => !validate({ prompt: 'x', ...body }))).toEqual([])
    expect(Object.keys(fieldsOf(name))).toEqual(
      expect.arrayContaining(Object.keys(fieldsOf('ImageParameters'))),
    )
  },
)

test('every example is valid', () => {
  const examples = operations.flatMap(({ requestBody }) => {
    const { schema, examples } = requestBody?.content['application/json'] ?? {}
    const validate = schema && validatorOf(schema.$ref.replace('#/components/schemas/', ''))
    return Object.values(examples ?? {}).map(({ value }) => ({ value, isValid: validate?.(value) }))
  })
  expect(examples.length).toBeGreaterThan(4)
  expect(examples.filter(({ isValid }) => isValid !== true)).toEqual([])
})

test('every operation declares what any error looks like', () => {
  expect(operations.filter(({ responses }) => !('default' in responses))).toEqual([])
})

test('defaults fill what is left out or null, and only that', () => {
  const filled = withDefaults(contract, 'PictureRequest', { prompt: 'x', n: null, steps: 7 }, [
    'n',
    'steps',
    'guidance_scale',
  ])
  expect(filled).toEqual({ n: 1, steps: 7, guidance_scale: 4.5 })
  expect(() => withDefaults(contract, 'PictureRequest', { prompt: 'x' }, ['seed'])).toThrow(
    /seed has no default/,
  )
})
