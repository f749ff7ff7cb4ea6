/**
 * Keeps web pages from driving a server on their visitor's machine: while there are no keys, a request must name one of the
 * server's own addresses in Host, and in Origin where it has one. DNS rebinding makes a browser send a page's requests to a
 * local address, but Host still holds the page's name; a page on another origin is told apart by Origin, and no CORS header
 * ever invites it.
 */
import { isIP } from 'node:net'
import type { FastifyRequest } from 'fastify'
import type { Config } from '../config.ts'
import { ApiError } from './errors.ts'
import { describeValue } from './validation.ts'

interface Authority {
  readonly hostname: string
  readonly port: number
}

/** The address that a connection arrived at. */
interface Arrival {
  readonly address: string | undefined
  readonly port: number | undefined
}

const defaultPorts: Record<string, number> = { 'http:': 80, 'https:': 443 }

function readAuthority(url: URL): Authority {
  const port = url.port === '' ? (defaultPorts[url.protocol] ?? 0) : Number(url.port)
  return { hostname: url.hostname.replace(/\.$/, ''), port }
}

/** @returns Host's value as URLs are read (lower case, IPv4 in its usual form), or undefined when it is not an authority */
function readHost(host: string): Authority | undefined {
  const url = URL.parse(`http://${host}`)
  const bare =
    url?.pathname === '/' &&
    url.search === '' &&
    url.hash === '' &&
    url.username === '' &&
    url.password === ''
  return url && bare && !/[\s/\\?#]/.test(host) ? readAuthority(url) : undefined
}

function isLoopback(hostname: string): boolean {
  if (hostname === 'localhost' || hostname.endsWith('.localhost') || hostname === '[::1]') return true
  return isIP(hostname) === 4 && hostname.startsWith('127.')
}

/** Sockets name IPv4 peers of a dual-stack server as ::ffff:1.2.3.4, and URLs put IPv6 into brackets. */
function asHostname(address: string): string {
  const plain = address.replace(/^::ffff:(?=\d+\.)/, '')
  return isIP(plain) === 6 ? `[${plain}]` : plain
}

function isOwn(
  { hostname, port }: Authority,
  arrival: Arrival,
  config: Pick<Config, 'host' | 'publicUrl'>,
): boolean {
  if (config.publicUrl !== '') {
    const known = readAuthority(new URL(config.publicUrl))
    // A proxy in front may pass the name without the port.
    if (hostname === known.hostname && (port === known.port || port === 80)) return true
  }
  if (port !== (arrival.port ?? 80)) return false
  if (isLoopback(hostname) || hostname === asHostname(config.host.toLowerCase())) return true
  // An address cannot be rebound: who names the very address that the connection came to means this server.
  return arrival.address !== undefined && hostname === asHostname(arrival.address)
}

const hint = 'set ATELIER_PUBLIC_URL to where clients reach this server'

/** @throws {ApiError} `host_not_allowed` or `origin_not_allowed` */
export function refuseForeign(request: FastifyRequest, config: Pick<Config, 'host' | 'publicUrl'>): void {
  const arrival = { address: request.raw.socket.localAddress, port: request.raw.socket.localPort }
  const { host, origin } = request.headers
  const authority = readHost(host ?? '')
  if (!authority || !isOwn(authority, arrival, config)) {
    throw new ApiError(
      'host_not_allowed',
      `Host: expected an address of this server, got ${describeValue(host ?? '')}; ${hint}`,
      { param: 'Host' },
    )
  }
  if (origin === undefined) return
  const url = URL.parse(origin)
  if (!url || !(url.protocol in defaultPorts) || !isOwn(readAuthority(url), arrival, config)) {
    throw new ApiError(
      'origin_not_allowed',
      `Origin: expected an address of this server, got ${describeValue(origin)}; ${hint}`,
      { param: 'Origin' },
    )
  }
}
