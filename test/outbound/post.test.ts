/** Requests for others go to the public internet and nowhere else, however the target is written and whatever it resolves to. */
import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { parseAllowed, type AllowedTarget } from '../../src/outbound/addresses.ts'
import { checkTarget, post, type OutboundOptions, type Resolver } from '../../src/outbound/post.ts'

/** Listens on loopback, where no request may come. */
let inside: Server
let port: number
let answer: RequestListener
const came: string[] = []

beforeAll(async () => {
  inside = createServer((request, response) => {
    came.push(request.url ?? '')
    answer(request, response)
  }).listen(0, '127.0.0.1')
  await once(inside, 'listening')
  port = (inside.address() as AddressInfo).port
})
afterEach(() => void came.splice(0))
afterAll(() => inside.close())

const options: OutboundOptions = { allowed: [], timeoutMs: 5_000, maxResponseBytes: 1000 }
const allow = (...texts: string[]) => texts.map(parseAllowed).filter((entry) => entry !== undefined)
const send = (url: string, changes: Partial<OutboundOptions> = {}) =>
  post(url, { headers: { 'content-type': 'application/json' }, body: '{}' }, { ...options, ...changes })
/** Gives one answer after the other, and the last again and again. */
const answering = (...answers: string[][]): Resolver & { asked: number } => {
  const resolver = Object.assign(
    (_: string, done: Parameters<Resolver>[1]) => {
      const addresses = answers[Math.min(resolver.asked++, answers.length - 1)] ?? []
      done(
        null,
        addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
      )
    },
    { asked: 0 },
  )
  return resolver
}

describe('refused as it is written:', () => {
  test.each([
    // private, loopback, link-local, metadata
    'http://127.0.0.1/',
    'http://127.1.2.3/',
    'http://10.0.0.1/',
    'http://172.16.0.1/',
    'http://172.31.255.255/',
    'http://192.168.1.1/',
    'http://169.254.169.254/latest/meta-data/',
    'http://169.254.1.1/',
    'http://0.0.0.0/',
    'http://0.1.2.3/',
    'http://100.64.0.1/',
    'http://100.100.100.200/',
    'http://168.63.129.16/',
    'http://192.0.0.192/',
    // multicast, broadcast, documentation, benchmarks, reserved
    'http://224.0.0.1/',
    'http://239.255.255.250/',
    'http://255.255.255.255/',
    'http://192.0.2.1/',
    'http://198.51.100.1/',
    'http://203.0.113.1/',
    'http://198.18.0.1/',
    'http://240.0.0.1/',
    'http://192.88.99.1/',
    // odd notations
    'http://2130706433/',
    'http://017700000001/',
    'http://0x7f000001/',
    'http://0x7f.1/',
    'http://127.1/',
    'http://0177.0.0.1/',
    'http://127.0.0.1./',
    'http://①②⑦.0.0.1/',
    'http://127。0。0。1/',
    'HTTP://0X7F.0.0.1/',
    'http://%31%32%37.0.0.1/',
    'http:\\\\127.0.0.1\\',
    'http://3232235777/',
    'http://0xa9fea9fe/',
    // IPv6
    'http://[::1]/',
    'http://[::]/',
    'http://[0:0:0:0:0:0:0:1]/',
    'http://[fe80::1]/',
    'http://[fc00::1]/',
    'http://[fd00:ec2::254]/',
    'http://[ff02::1]/',
    'http://[fec0::1]/',
    'http://[2001:db8::1]/',
    'http://[100::1]/',
    // IPv6 that carries IPv4
    'http://[::ffff:127.0.0.1]/',
    'http://[::ffff:7f00:1]/',
    'http://[::ffff:169.254.169.254]/',
    'http://[::127.0.0.1]/',
    'http://[::ffff:0:127.0.0.1]/',
    'http://[64:ff9b::127.0.0.1]/',
    'http://[64:ff9b::a9fe:a9fe]/',
    'http://[64:ff9b:1::127.0.0.1]/',
    'http://[2002:7f00:1::]/',
    'http://[2002:a9fe:a9fe::1]/',
    'http://[2001:0:7f00:1::]/',
    'http://[2001:0:4136:e378:8000:63bf:80ff:fffe]/',
    'http://[5f00::1]/',
  ])('%s', async (url) => {
    expect(() => checkTarget(url, [])).toThrow(expect.objectContaining({ code: 'forbidden_target' }))
    await expect(send(url)).rejects.toMatchObject({ code: 'forbidden_target' })
  })

  test.each([
    'ftp://example.com/',
    'file:///etc/passwd',
    'gopher://example.com/',
    'data:text/plain,x',
    'javascript:1',
    '//example.com/',
    'example.com',
    '',
    'http://',
    'http://user@example.com/',
    'http://example.com:x@127.0.0.1/',
    'http://:p@example.com/',
    'http://example.com:22/',
    'https://example.com:25/',
    'http://example.com:0/',
    'http://[fe80::1%25eth0]/',
    'http://1.2.3.4.5/',
    'http://127.0.0.256/',
    'http://exa mple.com/',
  ])('%s', (url) => {
    expect(() => checkTarget(url, [])).toThrow(expect.objectContaining({ code: 'invalid_target' }))
  })
})

test.each([
  'http://8.8.8.8/',
  'https://[2606:4700::1111]/',
  'http://[64:ff9b::8.8.8.8]/',
  'http://example.com:8080/a?b',
  'https://bücher.example/',
])('let through as it is written: %s', (url) => {
  expect(checkTarget(url, []).protocol).toMatch(/^https?:$/)
})

describe('refused by what its name stands for:', () => {
  test.each([
    ['127.0.0.1'],
    ['::1'],
    ['::ffff:127.0.0.1'],
    ['169.254.169.254'],
    ['10.1.2.3'],
    ['fd00::1'],
    ['fe80::1%eth0'],
    ['64:ff9b::7f00:1'],
    ['8.8.8.8', '127.0.0.1'],
    ['2606:4700::1111', '::1'],
    [],
  ])('%s %s', async (...addresses) => {
    const resolver = answering(addresses)
    await expect(send(`http://hooks.example:${port}/`, { resolver })).rejects.toMatchObject({
      code: 'forbidden_target',
    })
    expect(resolver.asked).toBe(1)
    expect(came).toEqual([])
  })

  test.each(['localhost', 'LOCALHOST'])("%s, by the system's own resolver", async (name) => {
    await expect(send(`http://${name}:${port}/`)).rejects.toMatchObject({ code: 'forbidden_target' })
    expect(came).toEqual([])
  })

  test('a name whose answer changes between two looks: there is one look, and it is judged', async () => {
    const resolver = answering(['8.8.8.8'], ['127.0.0.1'])
    const url = `http://rebinding.example:${port}/`
    expect(checkTarget(url, []).hostname).toBe('rebinding.example') // asks nobody
    await expect(send(url, { resolver, timeoutMs: 300 })).rejects.toMatchObject({
      code: expect.stringMatching(/^(timeout|unreachable)$/),
    })
    expect(resolver.asked).toBe(1)
    // and when it is sent again, the second answer is judged as well
    await expect(send(url, { resolver })).rejects.toMatchObject({ code: 'forbidden_target' })
    expect(came).toEqual([])
  })
})

describe('what the operator allows', () => {
  const resolver = answering(['127.0.0.1'])

  test.each<[string, string]>([
    ['127.0.0.0/8', '127.0.0.1'],
    ['127.0.0.1', 'hooks.internal'],
    ['hooks.internal', 'hooks.internal'],
    ['Hooks.Internal.', 'HOOKS.internal'],
  ])('%s lets %s be reached', async (entry, host) => {
    answer = (_, response) => response.end('thanks')
    const answered = await send(`http://${host}:${port}/path?query`, { allowed: allow(entry), resolver })
    expect(answered).toEqual({ status: 200, body: 'thanks' })
    expect(came).toEqual(['/path?query'])
  })

  test('is no more than that', async () => {
    const allowed: AllowedTarget[] = allow('127.0.0.2', '10.0.0.0/8', 'hooks.internal')
    await expect(send(`http://127.0.0.1:${port}/`, { allowed })).rejects.toMatchObject({
      code: 'forbidden_target',
    })
    await expect(send(`http://a.hooks.internal:${port}/`, { allowed, resolver })).rejects.toMatchObject({
      code: 'forbidden_target',
    })
    expect(came).toEqual([])
  })

  test.each(['10.0.0.0/33', '*', 'a b', '10.0.0', '1.2.3.4/', '-a', ''])('cannot be said as %j', (text) => {
    expect(parseAllowed(text)).toBeUndefined()
  })
})

describe('what answers', () => {
  const here = () => ({ allowed: allow('127.0.0.1') })

  test.each([301, 302, 303, 307, 308])('with %i leads nowhere', async (status) => {
    answer = (_, response) =>
      response.writeHead(status, { location: `http://127.0.0.1:${port}/secret` }).end()
    expect(await send(`http://127.0.0.1:${port}/hook`, here())).toMatchObject({ status })
    expect(came).toEqual(['/hook'])
  })

  test('with more than it may is cut off', async () => {
    answer = (_, response) => response.end('x'.repeat(100_000))
    await expect(send(`http://127.0.0.1:${port}/`, here())).rejects.toMatchObject({
      code: 'response_too_large',
    })
  })

  test('not at all, or by drips, is given up after its time', async () => {
    answer = () => undefined
    await expect(send(`http://127.0.0.1:${port}/`, { ...here(), timeoutMs: 200 })).rejects.toMatchObject({
      code: 'timeout',
    })
    answer = (_, response) => {
      const drip = setInterval(() => response.write('.'), 20)
      response.on('close', () => clearInterval(drip))
    }
    await expect(send(`http://127.0.0.1:${port}/`, { ...here(), timeoutMs: 300 })).rejects.toMatchObject({
      code: 'timeout',
    })
  })

  test('by hanging up is told as unreachable', async () => {
    answer = (request) => request.socket.destroy()
    await expect(send(`http://127.0.0.1:${port}/`, here())).rejects.toMatchObject({ code: 'unreachable' })
  })
})
