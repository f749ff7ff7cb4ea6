/**
 * Requests as somebody sends them who means harm, or a program that is broken: made from openapi.yaml, so that they come as far as
 * they can, and then wrong in type, size, encoding, head or speed. As bytes, since no client library would send them.
 */
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import * as fc from 'fast-check'
import { listOperations, readContract } from '../../src/http/contract.ts'

export interface HostileRequest {
  readonly operationId: string
  /** What is sent, piece by piece. */
  readonly pieces: readonly Buffer[]
  /** Before each further piece. */
  readonly pauseMs: number
  /** Hangs up after so many pieces, and does not wait for an answer. */
  readonly leavesAfter: number | undefined
}

export interface Answer {
  /** Undefined when the server hung up without a word. */
  readonly status: number | undefined
  readonly text: string
}

const { document } = readContract()
const operations = listOperations(document)

interface Declared {
  readonly parameters?: readonly ({ readonly $ref: string } | Parameter)[]
}
interface Parameter {
  readonly name: string
  readonly in: 'path' | 'query' | 'header'
  readonly example?: unknown
}

const components = (document.components as unknown as { parameters: Record<string, Parameter> }).parameters

const parametersOf = ({ path, method }: { path: string; method: string }): readonly Parameter[] => {
  const { parameters = [] } = (document.paths[path]?.[method.toLowerCase()] ?? {}) as Declared
  return parameters.map((one) =>
    '$ref' in one ? components[one.$ref.replace('#/components/parameters/', '')]! : one,
  )
}

const nasty = fc.constantFrom(
  '',
  ' ',
  '\0',
  '%00',
  '%',
  '%ff%fe',
  '..',
  '../../../../etc/passwd',
  '..%2f..%2fetc%2fpasswd',
  '.%2e/',
  "' OR 1=1 --",
  '"; DROP TABLE "ApiKey"; --',
  '$(reboot)',
  '{{7*7}}',
  '<script>alert(1)</script>',
  '\u202e\ufeff',
  '😀'.repeat(40),
  'x'.repeat(3000),
  '-1',
  '0',
  '1e309',
  'NaN',
  '9007199254740993',
  'null',
  'undefined',
  'true',
  '[]',
  '{}',
  '__proto__',
  'constructor',
)
const text = fc.oneof(nasty, fc.string({ unit: 'binary', maxLength: 60 }), fc.string({ maxLength: 30 }))

const deep = (depth: number): unknown => JSON.parse(`${'['.repeat(depth)}${']'.repeat(depth)}`)
const value = fc.oneof(
  text,
  fc.jsonValue({ maxDepth: 4 }),
  fc.double(),
  fc.bigInt().map(Number),
  fc.constantFrom<unknown>(
    null,
    [],
    {},
    -1,
    1e308,
    'x'.repeat(100_000),
    deep(500),
    { __proto__: null, constructor: { prototype: {} } },
    Array.from({ length: 5_000 }, () => 0),
  ),
)

/** The contract's own example, with a field changed, left out or added. */
function jsonOf(operation: (typeof operations)[number]): fc.Arbitrary<string> {
  const { requestBody } = document.paths[operation.path]?.[operation.method.toLowerCase()] ?? {}
  const json = requestBody?.content['application/json'] as
    { examples?: Record<string, { value: Record<string, unknown> }> } | undefined
  const examples = Object.values(json?.examples ?? {}).map((example) => example.value)
  const example = fc.constantFrom(...(examples.length > 0 ? examples : [{}]))
  const changed = fc
    .tuple(example, fc.nat(), value, fc.boolean(), text)
    .map(([whole, index, wrong, adds, name]) => {
      const names = Object.keys(whole)
      const field = adds || names.length === 0 ? name : names[index % names.length]!
      return JSON.stringify({ ...whole, steps: 1, [field]: wrong })
    })
  return fc.oneof(
    { arbitrary: changed, weight: 6 },
    { arbitrary: value.map((one) => JSON.stringify(one) ?? ''), weight: 2 },
    {
      arbitrary: fc.tuple(changed, fc.nat()).map(([whole, at]) => whole.slice(0, at % (whole.length + 1))),
      weight: 2,
    },
    {
      arbitrary: fc.constantFrom(
        '{"prompt":"x","__proto__":{"a":1}}',
        '{"a":1,"a":2}',
        '[[[[',
        '\ufeff{}',
        'NaN',
      ),
      weight: 1,
    },
  )
}

const bytesOf = (json: fc.Arbitrary<string>): fc.Arbitrary<Buffer> =>
  fc.oneof(
    { arbitrary: json.map((one) => Buffer.from(one)), weight: 6 },
    { arbitrary: json.map((one) => Buffer.from(one, 'utf16le')), weight: 1 },
    { arbitrary: json.map((one) => gzipSync(one)), weight: 1 },
    { arbitrary: fc.uint8Array({ maxLength: 400 }).map((one) => Buffer.from(one)), weight: 2 },
    { arbitrary: fc.constant(Buffer.from('PK\u0003\u0004 and nothing more')), weight: 1 },
    { arbitrary: fc.constant(Buffer.alloc(0)), weight: 1 },
    {
      arbitrary: fc.integer({ min: 250_000, max: 600_000 }).map((size) => Buffer.alloc(size, 0x20)),
      weight: 1,
    },
  )

/** What a head may hold: no line breaks, or it would be two. */
const headText = text.map((one) => one.replaceAll(/[\r\n]/g, ' '))
const mediaType = fc.oneof(
  { arbitrary: fc.constant('application/json'), weight: 5 },
  {
    arbitrary: fc.constantFrom(
      'application/json; charset=utf-16',
      'application/json; charset="',
      'application/zip',
      'application/octet-stream',
      'multipart/form-data; boundary=',
      'text/plain',
      'application/x-www-form-urlencoded',
      ';',
    ),
    weight: 2,
  },
  { arbitrary: headText, weight: 1 },
)
const headerName = fc.constantFrom(
  'accept',
  'authorization',
  'content-encoding',
  'cookie',
  'expect',
  'forwarded',
  'host',
  'idempotency-key',
  'if-none-match',
  'last-event-id',
  'origin',
  'prefer',
  'range',
  'transfer-encoding',
  'upgrade',
  'x-forwarded-for',
  'x-request-id',
)
const headers = fc.array(fc.tuple(headerName, headText), { maxLength: 4 })

/** @param authorization a valid key's, so that half of them get past the door */
export function hostileRequest(host: string, authorization: string): fc.Arbitrary<HostileRequest> {
  return fc.constantFrom(...operations).chain((operation) => {
    const parameters = parametersOf(operation)
    const query = fc.array(
      fc.tuple(fc.oneof(fc.constantFrom(...parameters.map(({ name }) => name), 'x'), text), text),
      { maxLength: 3 },
    )
    const segment = (name: string) => {
      const known = parameters.find((one) => one.in === 'path' && one.name === name)
      return fc.oneof(
        text.map(encode),
        fc.constant(typeof known?.example === 'string' ? known.example : 'x'),
        nasty.map((one) => one.replaceAll(/[\s\0]/g, '+')),
      )
    }
    const names = [...operation.path.matchAll(/\{(\w+)\}/g)].map(([, name = '']) => name)
    return fc
      .record({
        segments: fc.tuple(...names.map(segment)),
        query,
        method: fc.oneof(
          { arbitrary: fc.constant(operation.method), weight: 9 },
          { arbitrary: fc.constantFrom('HEAD', 'OPTIONS', 'PUT', 'TRACE', 'get', 'PROPFIND'), weight: 1 },
        ),
        hasKey: fc.boolean(),
        headers,
        mediaType,
        body: bytesOf(jsonOf(operation)),
        length: fc.oneof(
          { arbitrary: fc.constant('true'), weight: 8 },
          { arbitrary: fc.constantFrom('chunked', 'short', 'none', 'nonsense'), weight: 2 },
        ),
        cuts: fc.nat({ max: 3 }),
        pauseMs: fc.constantFrom(0, 0, 0, 5, 30),
        leaves: fc.oneof(
          { arbitrary: fc.constant(false), weight: 9 },
          { arbitrary: fc.constant(true), weight: 1 },
        ),
      })
      .map((wanted) => {
        let next = 0
        const path = operation.path.replaceAll(/\{\w+\}/g, () => String(wanted.segments[next++]))
        const search = wanted.query.map(([name, one]) => `${encode(name)}=${encode(one)}`).join('&')
        const lines = [
          `${wanted.method} ${path}${search === '' ? '' : `?${search}`} HTTP/1.1`,
          `host: ${host}`,
          'connection: close',
          ...(wanted.hasKey ? [`authorization: ${authorization}`] : []),
          ...wanted.headers.map(([name, one]) => `${name}: ${one}`),
        ]
        const hasBody = operation.method !== 'GET' || wanted.length !== 'true'
        const body = hasBody ? wanted.body : Buffer.alloc(0)
        if (hasBody) lines.push(`content-type: ${wanted.mediaType}`, ...lengthOf(body, wanted.length))
        const head = Buffer.from(`${lines.join('\r\n')}\r\n\r\n`)
        const sent = wanted.length === 'chunked' ? chunked(body) : body
        const whole = Buffer.concat([head, sent])
        const pieces = cut(whole, wanted.cuts)
        return {
          operationId: operation.operationId,
          pieces,
          pauseMs: wanted.pauseMs,
          leavesAfter: wanted.leaves ? pieces.length - 1 : undefined,
        }
      })
  })
}

const encode = (one: string): string => encodeURIComponent(one.toWellFormed())

function lengthOf(body: Buffer, kind: string): string[] {
  switch (kind) {
    case 'chunked':
      return ['transfer-encoding: chunked']
    case 'short':
      return [`content-length: ${Math.floor(body.length / 2)}`]
    case 'nonsense':
      return ['content-length: 0x10']
    case 'none':
      return []
    default:
      return [`content-length: ${body.length}`]
  }
}

const chunked = (body: Buffer): Buffer =>
  Buffer.concat([Buffer.from(`${body.length.toString(16)}\r\n`), body, Buffer.from('\r\n0\r\n\r\n')])

function cut(whole: Buffer, cuts: number): Buffer[] {
  const size = Math.ceil(whole.length / (cuts + 1))
  return Array.from({ length: cuts + 1 }, (_, index) => whole.subarray(index * size, (index + 1) * size))
}

/** @returns what the server says until it hangs up; nothing where the client leaves first */
export async function sendHostile(
  address: string,
  { pieces, pauseMs, leavesAfter }: HostileRequest,
  patienceMs = 30_000,
): Promise<Answer> {
  const { hostname, port } = new URL(address)
  const socket = connect(Number(port), hostname)
  const chunks: Buffer[] = []
  const ended = new Promise<void>((resolve) => {
    socket.on('data', (chunk) => chunks.push(chunk))
    socket.on('error', () => undefined)
    socket.on('close', () => resolve())
  })
  for (const [index, piece] of pieces.entries()) {
    if (index > 0 && pauseMs > 0) await sleep(pauseMs)
    if (index === leavesAfter) socket.destroy()
    if (socket.destroyed) break
    socket.write(piece)
  }
  // The server waits for what was announced; nothing more comes.
  if (!socket.destroyed) socket.end()
  const timer = setTimeout(() => socket.destroy(new Error('no end')), patienceMs)
  await ended
  clearTimeout(timer)
  const said = Buffer.concat(chunks).toString()
  const statuses = [...said.matchAll(/^HTTP\/1\.1 (\d{3}) /gm)].map(([, status]) => Number(status))
  return { status: statuses.findLast((status) => status >= 200), text: said }
}
