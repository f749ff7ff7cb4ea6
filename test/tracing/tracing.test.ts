/** Traces against a receiver that speaks OTLP over HTTP: from the request through the queue to each step, or nothing at all. */
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { json } from 'node:stream/consumers'
import type { FastifyInstance } from 'fastify'
import { afterAll, afterEach, beforeAll, expect, onTestFinished, test, vi } from 'vitest'
import { samplerOf } from '../../src/tracing/sampler.ts'
import { openTracing, type Tracing } from '../../src/tracing/tracing.ts'
import { buildTestApp, startTestService, type TestService } from '../http/server.ts'

interface ReceivedSpan {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly startTimeUnixNano: string
  readonly endTimeUnixNano: string
  readonly attributes: readonly { readonly key: string; readonly value: Readonly<Record<string, unknown>> }[]
  readonly status: { readonly code?: number }
}
interface Received {
  readonly resourceSpans: readonly {
    readonly scopeSpans: readonly { readonly spans: readonly ReceivedSpan[] }[]
  }[]
}

let receiver: Server
let paths: (string | undefined)[] = []
let bodies: string[] = []
let tracing: Tracing
let service: TestService
let app: FastifyInstance
let before: () => void = () => undefined

beforeAll(async () => {
  receiver = createServer((request, response) => {
    paths.push(request.url)
    void json(request).then((body) => {
      bodies.push(JSON.stringify(body))
      return response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
    })
  }).listen(0, '127.0.0.1')
  await once(receiver, 'listening')
})
afterEach(() => {
  paths = []
  bodies = []
  before = () => undefined
})
afterAll(() => {
  vi.unstubAllEnvs()
  receiver.close()
})

async function start(): Promise<void> {
  vi.stubEnv('OTEL_EXPORTER_OTLP_ENDPOINT', `http://127.0.0.1:${(receiver.address() as AddressInfo).port}`)
  tracing = (await openTracing(process.env, 'test'))!
  service = await startTestService({ tracing, before: () => before() })
  app = await buildTestApp(service.generation, { tracing })
  onTestFinished(async () => {
    await app.close()
    await service.close()
  })
}

async function received(): Promise<readonly ReceivedSpan[]> {
  await service.generation.close()
  await tracing.close()
  return bodies
    .map((body) => JSON.parse(body) as Received)
    .flatMap(({ resourceSpans }) =>
      resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans)),
    )
}

const attribute = ({ attributes }: ReceivedSpan, name: string) =>
  Object.values(attributes.find(({ key }) => key === name)?.value ?? {})[0]

test("a client's trace goes on through the queue to every step, in one tree, and tells no prompt", async () => {
  await start()
  const traceId = '0af7651916cd43dd8448eb211c80319c'
  const { statusCode } = await app.inject({
    method: 'POST',
    url: '/v1/images/generations',
    headers: { traceparent: `00-${traceId}-b7ad6b7169203331-01` },
    payload: { prompt: 'my grandmother', steps: 4, n: 2 },
  })
  expect(statusCode).toBe(200)
  const spans = (await received()).filter((span) => span.traceId === traceId)
  const named = (name: string) => spans.filter((span) => span.name === name)
  const [request] = named('POST /v1/images/generations')
  const [generation] = named('generation')
  expect(request?.parentSpanId).toBe('b7ad6b7169203331')
  expect(attribute(request!, 'http.response.status_code')).toBe(200)
  expect(generation?.parentSpanId).toBe(request?.spanId)
  expect(named('queue').map(({ parentSpanId }) => parentSpanId)).toEqual([generation?.spanId])
  const pictures = named('picture')
  expect(pictures.map(({ parentSpanId }) => parentSpanId)).toEqual([generation?.spanId, generation?.spanId])
  for (const { spanId } of pictures) {
    const children = spans.filter(({ parentSpanId }) => parentSpanId === spanId)
    expect(children.map(({ name }) => name).sort()).toEqual(['decode', 'denoise', 'encode', 'store'])
    const denoise = children.find(({ name }) => name === 'denoise')
    const steps = spans.filter(({ parentSpanId }) => parentSpanId === denoise?.spanId)
    expect(steps.map((step) => Number(attribute(step, 'atelier.step')))).toEqual([1, 2, 3, 4])
  }
  for (const { startTimeUnixNano, endTimeUnixNano } of spans)
    expect(BigInt(endTimeUnixNano)).toBeGreaterThanOrEqual(BigInt(startTimeUnixNano))
  expect(new Set(paths)).toEqual(new Set(['/v1/traces']))
  expect(bodies.join('')).not.toContain('grandmother')
})

test('a picture that fails says so, and a client that does not want to be traced is not', async () => {
  await start()
  before = () => {
    throw new Error('of my grandmother')
  }
  const payload = { prompt: 'x', steps: 2 }
  const url = '/v1/images/generations'
  await app.inject({ method: 'POST', url, payload })
  const unwanted = { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00' }
  await app.inject({ method: 'POST', url, payload, headers: unwanted })
  const spans = await received()
  expect(spans.filter(({ name }) => name === 'generation')).toHaveLength(1)
  expect(
    spans
      .filter(({ status }) => status.code === 2)
      .map(({ name }) => name)
      .sort(),
  ).toEqual(['POST /v1/images/generations', 'generation', 'picture'])
  expect(bodies.join('')).not.toContain('grandmother')
})

test('a run of a job and its stages, and a webhook that is told, are traced', async () => {
  await start()
  const run = tracing.run({ id: 'ftjob_1', attempt: 2, model: 'tiny' })
  run.stageStarted(0, 'pixel')
  run.stageFinished(10)
  run.stageStarted(1, 'align')
  run.end('paused')
  const traceId = '0af7651916cd43dd8448eb211c80319c'
  const common = { id: 'msg_1', event: 'generation.succeeded', generationId: 'gen_1', attempts: 1 }
  const delivery = tracing.delivery({ ...common, traceparent: `00-${traceId}-b7ad6b7169203331-01` })
  delivery.end({ kind: 'missed', status: 500 })
  const spans = await received()
  const [whole] = spans.filter(({ name }) => name === 'fine-tuning')
  expect(attribute(whole!, 'atelier.outcome')).toBe('paused')
  const stages = spans.filter(({ name }) => name === 'stage')
  expect(stages.map((stage) => [stage.parentSpanId, attribute(stage, 'atelier.stage_kind')])).toEqual([
    [whole?.spanId, 'pixel'],
    [whole?.spanId, 'align'],
  ])
  const [webhook] = spans.filter(({ name }) => name === 'webhook')
  expect(webhook).toMatchObject({ traceId, parentSpanId: 'b7ad6b7169203331', status: { code: 2 } })
})

test.each([
  ['always_off', undefined, 0],
  ['parentbased_traceidratio', '0', 0],
  ['traceidratio', '1', 1],
])('OTEL_TRACES_SAMPLER=%s with %j records %i of a request', async (sampler, argument, recorded) => {
  vi.stubEnv('OTEL_TRACES_SAMPLER', sampler)
  if (argument !== undefined) vi.stubEnv('OTEL_TRACES_SAMPLER_ARG', argument)
  onTestFinished(() => {
    vi.stubEnv('OTEL_TRACES_SAMPLER', undefined)
    vi.stubEnv('OTEL_TRACES_SAMPLER_ARG', undefined)
  })
  await start()
  await app.inject('/livez')
  expect((await received()).filter(({ name }) => name === 'GET /livez')).toHaveLength(recorded)
})

test.each([
  [{ OTEL_TRACES_SAMPLER: 'sometimes' }, 'OTEL_TRACES_SAMPLER: expected one of always_on'],
  [
    { OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '2' },
    'OTEL_TRACES_SAMPLER_ARG: expected a number from 0 to 1, got "2"',
  ],
])('a sampler that there is not stops the start: %j', (environment, message) => {
  expect(() => samplerOf(environment)).toThrow(message)
})

test('without a receiver nothing of it is loaded', () => {
  const program = `
    const { openTracing } = await import('./src/tracing/tracing.ts')
    const { registerHooks } = await import('node:module')
    registerHooks({ resolve(name, context, next) { if (name.includes('opentelemetry')) throw new Error(name); return next(name, context) } })
    console.log(await openTracing({}, 'test'))`
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    encoding: 'utf8',
  })
  expect(stdout.trim()).toBe('undefined')
})
