import { createSecretKey } from 'node:crypto'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { checkSignature, expiryOf, signPath } from '../../src/http/signed-urls.ts'

const key = createSecretKey(new Uint8Array(32).fill(1))
const path = '/v1/images/img_1/content'
const expiresAt = new Date('2030-01-01T00:00:00Z')
const signed = signPath(path, expiresAt, key)
const before = new Date(expiresAt.getTime() - 1)

test('an address is good until it expires', () => {
  expect(signed).toMatch(/^\/v1\/images\/img_1\/content\?expires=1893456000&signature=[\w-]{43}$/)
  expect(checkSignature(signed, key, before)).toEqual({ kind: 'valid' })
  expect(checkSignature(signed, key, expiresAt)).toEqual({ kind: 'expired', expiredAt: expiresAt })
})

test('other parameters beside it change nothing', () => {
  expect(checkSignature(`${signed}&max_side=64`, key, before)).toEqual({ kind: 'valid' })
})

test('an address without both parameters does not pretend to be signed', () => {
  expect(checkSignature(path, key, before)).toEqual({ kind: 'absent' })
  expect(checkSignature(`${path}?max_side=64`, key, before)).toEqual({ kind: 'absent' })
})

describe('wrong is', () => {
  const [, signature = ''] = signed.split('signature=')
  test.each([
    ['another path', signed.replace('img_1', 'img_2')],
    ['a path that means the same', signed.replace('img_1', 'img%5F1')],
    ['a later expiry', signed.replace('1893456000', '1893456001')],
    ['no signature', `${path}?expires=1893456000`],
    ['no expiry', `${path}?signature=${signature}`],
    ['two expiries', `${signed}&expires=1893456001`],
    ['two signatures', `${signed}&signature=${signature}`],
    ['an empty signature', `${path}?expires=1893456000&signature=`],
    ['a shorter signature', signed.slice(0, -4)],
    ['a longer signature', `${signed}AAAA`],
    ['an expiry that is no number', signed.replace('1893456000', 'never')],
    ['an expiry in exponents', signed.replace('1893456000', '1e99')],
    ['a negative expiry', signed.replace('1893456000', '-1')],
  ])('%s', (_, url) => {
    expect(checkSignature(url, key, before)).toEqual({ kind: 'wrong' })
  })

  test('what another key has signed', () => {
    expect(
      checkSignature(signPath(path, expiresAt, createSecretKey(new Uint8Array(32))), key, before),
    ).toEqual({
      kind: 'wrong',
    })
  })

  test('any address in which one character of path, expiry or signature was changed', () => {
    // the last one of the signature has four bits that decoding leaves out
    const change = fc.record({ at: fc.nat(signed.length - 2), to: fc.constantFrom('a', 'Z', '0', '9', '_') })
    fc.assert(
      fc.property(change, ({ at, to }) => {
        fc.pre(signed[at] !== to && !/[?&=]/.test(signed[at] ?? ''))
        const { kind } = checkSignature(signed.slice(0, at) + to + signed.slice(at + 1), key, before)
        expect(kind).not.toBe('valid')
      }),
    )
  })
})

test('expiries lie within a sixtieth beyond what was asked for, and are alike for a while', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 604_800 }),
      fc.date({ min: new Date(1e12), max: new Date(2e12), noInvalidDate: true }),
      (seconds, now) => {
        const lasts = (expiryOf(seconds, now).getTime() - now.getTime()) / 1000
        expect(lasts).toBeGreaterThanOrEqual(seconds)
        expect(lasts).toBeLessThanOrEqual(seconds + Math.max(1, seconds / 60))
      },
    ),
  )
  const first = expiryOf(3600, new Date('2030-01-01T00:00:01Z'))
  expect(expiryOf(3600, new Date('2030-01-01T00:00:59Z'))).toEqual(first)
  expect(first).toEqual(new Date('2030-01-01T01:01:00Z'))
})
