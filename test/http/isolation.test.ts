/**
 * Property: no operation of openapi.yaml does anything for whoever has no key, the wrong scope, or another project's key. The
 * requests come from the contract; a new route with an id is covered as soon as a row for it is seeded here, and fails until then.
 */
import type { FastifyInstance } from 'fastify'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readProject, type Project } from '../../src/access/project.ts'
import { scopes, type Scope } from '../../src/access/scopes.ts'
import { startAccessService, type AccessService } from '../../src/access/service.ts'
import { startGenerationService, type GenerationService } from '../../src/generation/service.ts'
import { listOperations, readContract } from '../../src/http/contract.ts'
import { startWebhookService, type WebhookService } from '../../src/webhooks/service.ts'
import { log, smallStage, useFineTuning } from '../fine-tuning/fixture.ts'
import { practicePool } from '../fine-tuning/practice-pool.ts'
import { send } from './requests.ts'
import { validatorOf } from './schemas.ts'
import { buildTestApp, listen } from './server.ts'

const fixture = useFineTuning()
const isError = validatorOf('Error')
const { document } = readContract()
const operations = listOperations(document)
const guarded = operations.filter(({ security }) => security?.length !== 0)

let access: AccessService
let generation: GenerationService
let webhooks: WebhookService
let app: FastifyInstance
let address: string
/** By project and scopes. */
const keys = new Map<string, string>()
/** Ids of rows of project a, by the part of a path that ends with them. */
const seeds = new Map<string, string>()
/** What is the installation's, so that any project may see it. */
const everybodys: Readonly<Record<string, string>> = {
  '/v1/models/{id}': 'tiny-512',
  '/v1/deployments/{id}': 'dep_none',
}

const keyOf = (project: string, ...held: Scope[]): string => keys.get(`${project} ${held.join()}`) ?? ''

async function addKey(project: Project, ...held: Scope[]): Promise<void> {
  const { text } = await access.keys.create({ project, name: 'isolation', scopes: held })
  keys.set(`${project} ${held.join()}`, text)
}

beforeAll(async () => {
  const pool = practicePool()
  const { storage } = fixture
  const fineTuning = await fixture.start(pool)
  access = await startAccessService({ database: storage.database, log })
  generation = await startGenerationService({ storage, pool, log, maxWaitMs: 1e9 })
  const { datasets } = fixture
  webhooks = await startWebhookService({ storage, log, allowed: [] })
  app = await buildTestApp(generation, { access, fineTuning, datasets, webhooks, logger: log })
  address = await listen(app)
  for (const name of ['a', 'b']) {
    const project = readProject(name)!
    await addKey(project, ...scopes)
    for (const scope of scopes) await addKey(project, scope)
  }
  await seed()
})
afterAll(async () => {
  await app.close()
  await webhooks.close()
  await generation.close()
  await access.close()
})

/** A row of every kind, made as its project makes it. */
async function seed(): Promise<void> {
  const as = (options: Call) => call(options, keyOf('a', ...scopes))
  seeds.set('/v1/keys/{id}', (await as({ url: '/v1/keys' })).json().data.at(-1).id)

  const made = await as({
    method: 'POST',
    url: '/v1/generations',
    headers: { prefer: 'wait=60' },
    payload: { prompt: 'x', steps: 4, preview_every: 1 },
  })
  const { id, images } = made.json()
  seeds.set('/v1/generations/{id}', id)
  seeds.set('/v1/images/{id}', images[0].id)
  const preview = await fixture.storage.database.prisma.generationEvent.findFirstOrThrow({
    where: { generationId: id, type: 'preview' },
  })
  seeds.set('/v1/generations/{id}/previews/{number}', String(preview.sequence))

  await fixture.storage.database.prisma.webhookDelivery.create({
    data: {
      id: 'msg_of_a',
      generationId: id,
      event: 'generation.succeeded',
      url: 'https://example.com/hook',
      state: 'delivered',
      dueAt: new Date(),
      giveUpAt: new Date(),
      settledAt: new Date(),
    },
  })
  seeds.set('/v1/webhooks/deliveries/{id}', 'msg_of_a')

  const project = readProject('a')!
  const mine = fixture.datasets.of({ project })
  const dataset = await mine.fromFolder({ name: 'small', folder: 'small' })
  await mine.settled(dataset.id)
  seeds.set('/v1/datasets/{id}', dataset.id)
  const { data } = await mine.items(dataset.id)
  seeds.set('/v1/datasets/{id}/items/{item}', data[0]!.id)

  const jobs = fixture.service.of({ project })
  const job = await jobs.create({
    requestId: 'req',
    model: 'tiny-512',
    datasetId: dataset.id,
    onBadData: 'fail',
    specification: {
      seed: 1,
      stages: [smallStage],
      samples: { prompts: [{ prompt: 'x', seed: 1 }], every: 1 },
    },
  })
  for await (const _ of jobs.streamEvents(job.id)) {
    // until its end
  }
  seeds.set('/v1/fine_tuning/jobs/{id}', job.id)
  const [samples, checkpoints] = [await jobs.samples(job.id, {}), await jobs.checkpoints(job.id, {})]
  seeds.set('/v1/fine_tuning/jobs/{id}/samples/{sample}', samples.data[0]!.id)
  seeds.set('/v1/fine_tuning/jobs/{id}/checkpoints/{checkpoint}', checkpoints.data[0]!.id)
}

interface Call {
  readonly method?: string
  readonly url: string
  readonly headers?: Readonly<Record<string, string>>
  readonly payload?: object
}

async function call({ method = 'GET', url, headers, payload }: Call, key?: string) {
  const { status, ...answer } = await send(address, {
    method,
    path: url,
    headers: {
      ...(payload && { 'content-type': 'application/json' }),
      ...headers,
      ...(key && { authorization: `Bearer ${key}` }),
    },
    ...(payload && { body: JSON.stringify(payload) }),
  })
  return { statusCode: status, ...answer, json: () => JSON.parse(answer.body) }
}

/** A request that would succeed for whoever may make it. @throws for an id that nobody seeded */
function requestOf({ method, path }: (typeof operations)[number]): Call {
  const url = path.replace(/\{\w+\}/g, (parameter, at: number) => {
    const prefix = path.slice(0, at) + parameter
    const id = seeds.get(prefix) ?? everybodys[prefix]
    if (id === undefined) throw new Error(`no row of project a is seeded for ${prefix}`)
    return id
  })
  const { requestBody } = document.paths[path]?.[method.toLowerCase()] ?? {}
  const json = requestBody?.content['application/json'] as
    { examples?: Record<string, { value: object }> } | undefined
  const [example] = Object.values(json?.examples ?? {})
  return {
    method,
    url,
    ...(json && { payload: example?.value ?? {} }),
  }
}

const named = guarded.map((operation) => [operation.operationId, operation] as const)

test('the contract asks nothing of those alone who look whether the service is there', () => {
  const open = operations.filter((operation) => !guarded.includes(operation))
  expect(open.map(({ operationId }) => operationId)).toEqual(['getLiveness', 'getReadiness', 'getContract'])
  expect(operations.filter(({ path }) => path.startsWith('/v1/')).every((one) => guarded.includes(one))).toBe(
    true,
  )
})

describe.each(named)('%s', (_, operation) => {
  test('without a key: 401', async () => {
    const answer = await call(requestOf(operation))
    expect(answer.statusCode).toBe(401)
    expect(answer.headers['www-authenticate']).toBe('Bearer realm="atelier"')
    expect(isError(answer.json())).toBe(true)
    expect(answer.json().error.code).toBe('invalid_api_key')
  })

  const accepted = operation.security?.flatMap((alternative) => alternative['apiKey'] ?? []) ?? []
  const wrong = scopes.filter((scope) => !accepted.includes(scope))
  test.runIf(wrong.length > 0)('with a key of another scope: 403', async () => {
    for (const scope of wrong) {
      const answer = await call(requestOf(operation), keyOf('a', scope))
      expect({ scope, status: answer.statusCode }).toEqual({ scope, status: 403 })
      expect(answer.json().error.code).toBe('insufficient_scope')
    }
  })
})

test('the address that a picture’s own are told is good for whoever has it, and no other', async () => {
  const { url } = (
    await call({ url: `/v1/images/${seeds.get('/v1/images/{id}')}` }, keyOf('a', 'read'))
  ).json()
  const { pathname, search } = new URL(url)
  expect((await call({ url: `${pathname}${search}` })).statusCode).toBe(200)
  expect((await call({ url: `${pathname}${search}` }, keyOf('b', 'read'))).statusCode).toBe(200)
  expect((await call({ url: pathname })).statusCode).toBe(401)
  expect((await call({ url: pathname.replace('/content', search) })).statusCode).toBe(401)
  const forged = search.replace(/signature=.{4}/, 'signature=AAAA')
  expect((await call({ url: `${pathname}${forged}` })).json().error.code).toBe('invalid_signature')
})

describe("another project's rows", () => {
  const isOwned = ({ path }: (typeof operations)[number]) =>
    path.includes('{') && !Object.keys(everybodys).some((prefix) => path.startsWith(prefix))
  const owned = named.filter(([, operation]) => isOwned(operation))
  // What removes rows comes last.
  const forOwner = [...owned].sort(
    ([, a], [, b]) =>
      Number(a.method === 'DELETE') - Number(b.method === 'DELETE') || b.path.length - a.path.length,
  )

  test.each(owned)('%s: 404', async (_, operation) => {
    const answer = await call(requestOf(operation), keyOf('b', ...scopes))
    expect(answer.statusCode).toBe(404)
    expect(answer.json().error.code).toMatch(/_not_found$/)
  })

  test('are in no list, and their ids in no answer', async () => {
    const lists = guarded.filter(({ method, path }) => method === 'GET' && !path.includes('{'))
    expect(lists.length).toBeGreaterThan(4)
    const ids = [...seeds.values()].filter((id) => id.includes('_'))
    for (const operation of lists) {
      const answer = await call(requestOf(operation), keyOf('b', ...scopes))
      expect(answer.statusCode).toBe(200)
      expect(ids.filter((id) => answer.body.includes(id))).toEqual([])
    }
  })

  test('cannot be named in a request for something new', async () => {
    const answer = await call(
      {
        method: 'POST',
        url: '/v1/fine_tuning/jobs',
        payload: {
          model: 'tiny-512',
          dataset: seeds.get('/v1/datasets/{id}'),
          stages: [{ kind: 'align', resolution: 16, steps: 2 }],
        },
      },
      keyOf('b', ...scopes),
    )
    expect({ status: answer.statusCode, code: answer.json().error?.code }).toEqual({
      status: 404,
      code: 'dataset_not_found',
    })
  })

  test('nor do their idempotency keys mean anything', async () => {
    const request = {
      method: 'POST' as const,
      url: '/v1/generations',
      headers: { 'idempotency-key': 'shared' },
      payload: { prompt: 'x', steps: 1 },
    }
    const first = await call(request, keyOf('a', 'generate'))
    const second = await call({ ...request, payload: { prompt: 'y' } }, keyOf('b', 'generate'))
    expect([first.statusCode, second.statusCode]).toEqual([202, 202])
    expect(second.headers['idempotency-replayed']).toBeUndefined()
    expect(second.json().id).not.toBe(first.json().id)
  })

  test.each(forOwner)('%s: there for their own', async (_, operation) => {
    const answer = await call(requestOf(operation), keyOf('a', ...scopes))
    expect([401, 403, 404, 500]).not.toContain(answer.statusCode)
  })
})

test('what is the installation’s is there for every project', async () => {
  const answer = await call({ url: '/v1/models/tiny-512' }, keyOf('b', 'read'))
  expect(answer.json()).toMatchObject({ id: 'tiny-512' })
})
