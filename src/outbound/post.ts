/**
 * POST to an address that a client named, without being led to where the client could not go itself.
 *
 * What counts is the address that the connection is made to: names are resolved by the connection itself, and every address
 * that they stand for is judged between the answer and the connection, so that a second answer cannot differ from the first.
 * Redirects are not followed: each would be another target, chosen by whoever answers, and a webhook has none (Standard
 * Webhooks takes any 3xx for a failure).
 */
import { lookup as resolve, type LookupAddress } from 'node:dns'
import { request as requestHttp } from 'node:http'
import { request as requestHttps } from 'node:https'
import { isIP, type LookupFunction } from 'node:net'
import { isAllowed, isAllowedName, type AllowedTarget } from './addresses.ts'
import { OutboundError } from './errors.ts'

/** As dns.lookup with `all`. */
export type Resolver = (
  name: string,
  done: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void

export interface OutboundOptions {
  /** Beside the public internet. */
  readonly allowed: readonly AllowedTarget[]
  readonly timeoutMs: number
  readonly maxResponseBytes: number
  readonly resolver?: Resolver
}

export interface OutboundPost {
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  readonly signal?: AbortSignal
}

export interface OutboundAnswer {
  readonly status: number
  readonly body: string
}

const systemResolver: Resolver = (name, done) => resolve(name, { all: true, order: 'verbatim' }, done)

/** Services that speak HTTP listen here; below are those that could be made to take a request for something else. */
const isAllowedPort = (port: number) => port === 80 || port === 443 || port >= 1024

/**
 * What can be said of an address before anybody is asked. Odd notations of numbers, capitals and other scripts are read as
 * every browser reads them (WHATWG URL), so that what is judged is what is connected to.
 * @throws {OutboundError} `invalid_target`, `forbidden_target`
 */
export function checkTarget(text: string, allowed: readonly AllowedTarget[]): URL {
  const url = URL.parse(text)
  if (!url || (url.protocol !== 'http:' && url.protocol !== 'https:'))
    throw new OutboundError('invalid_target', 'expected an http or https URL')
  if (url.username !== '' || url.password !== '')
    throw new OutboundError('invalid_target', 'expected a URL without user name and password')
  const port = url.port === '' ? (url.protocol === 'http:' ? 80 : 443) : Number(url.port)
  if (!isAllowedPort(port))
    throw new OutboundError('invalid_target', `expected port 80, 443 or one from 1024, got ${port}`)
  const host = hostOf(url)
  if (isIP(host) !== 0 && !isAllowed(host, allowed)) throw forbidden(host)
  return url
}

/** @throws {OutboundError} */
export async function post(
  target: string,
  { headers, body, signal }: OutboundPost,
  options: OutboundOptions,
): Promise<OutboundAnswer> {
  const { allowed, timeoutMs, maxResponseBytes } = options
  const url = checkTarget(target, allowed)
  const limit = AbortSignal.timeout(timeoutMs)
  const { promise, resolve, reject } = Promise.withResolvers<OutboundAnswer>()
  const request = url.protocol === 'https:' ? requestHttps : requestHttp
  const outgoing = request(url, {
    method: 'POST',
    headers: { ...headers, 'content-length': Buffer.byteLength(body), connection: 'close' },
    lookup: guardedLookup(options),
    agent: false, // no connection is shared, and none is made through a proxy of the environment
    signal: signal ? AbortSignal.any([signal, limit]) : limit,
  })
  outgoing.on('error', reject)
  outgoing.on('response', (response) => {
    const chunks: Buffer[] = []
    let sizeBytes = 0
    response.on('data', (chunk: Buffer) => {
      sizeBytes += chunk.length
      if (sizeBytes <= maxResponseBytes) return void chunks.push(chunk)
      const message = `expected an answer of at most ${maxResponseBytes} bytes, got more`
      response.destroy(new OutboundError('response_too_large', message))
    })
    response.on('error', reject)
    response.on('end', () =>
      resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() }),
    )
  })
  outgoing.end(body)
  try {
    return await promise
  } catch (error) {
    if (error instanceof OutboundError) throw error
    if (signal?.aborted) throw error
    if (limit.aborted)
      throw new OutboundError('timeout', `expected an answer within ${timeoutMs / 1000} s`, { cause: error })
    const reason = error instanceof Error ? error.message : String(error)
    throw new OutboundError('unreachable', `expected a server that answers: ${reason}`, { cause: error })
  }
}

/** Node asks it for names alone; addresses in the URL were judged before. */
function guardedLookup({ allowed, resolver = systemResolver }: OutboundOptions): LookupFunction {
  return (name, { all }, done) => {
    resolver(name, (error, addresses) => {
      if (error) return done(error, '')
      const refused = isAllowedName(name, allowed)
        ? undefined
        : addresses.find(({ address }) => !isAllowed(address, allowed))
      const [first] = addresses
      if (refused || !first) return done(forbidden(name), '')
      if (all === true) done(null, addresses)
      else done(null, first.address, first.family)
    })
  }
}

/** The address itself stays untold: what a name stands for inside is nobody's business outside. */
function forbidden(host: string): OutboundError {
  return new OutboundError(
    'forbidden_target',
    `expected an address of the public internet, got ${host}, which is none or stands for another; ATELIER_OUTBOUND_ALLOW can allow it`,
  )
}

const hostOf = ({ hostname }: URL): string => hostname.replace(/^\[(.*)\]$/, '$1')
