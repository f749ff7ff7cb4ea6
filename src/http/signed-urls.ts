/**
 * Addresses that are good for a while, for whoever has them: a path, the second it expires, and a signature of both under a
 * key that all processes of an installation share (HMAC-SHA256, RFC 2104). They need no API key.
 */
import { createHmac, timingSafeEqual, type Hmac, type KeyObject } from 'node:crypto'

/** Of an address that came; `absent` is one that does not pretend to be signed. */
export type SignatureCheck =
  { readonly kind: 'absent' | 'valid' | 'wrong' } | { readonly kind: 'expired'; readonly expiredAt: Date }

/** Rounded up by a sixtieth at most, so that answers that follow each other name the same address, which is then cached. */
export function expiryOf(expirySeconds: number, now: Date): Date {
  const grain = Math.max(1, Math.floor(expirySeconds / 60))
  return new Date(Math.ceil((now.getTime() / 1000 + expirySeconds) / grain) * grain * 1000)
}

/** @param path as it will come, percent-encoded, without a query */
export function signPath(path: string, expiresAt: Date, key: KeyObject): string {
  const expires = Math.floor(expiresAt.getTime() / 1000)
  return `${path}?expires=${expires}&signature=${macOf(path, expires, key).digest('base64url')}`
}

/** @param url path and query, as they came */
export function checkSignature(url: string, key: KeyObject, now: Date): SignatureCheck {
  const [path = '', query = ''] = url.split('?', 2)
  const parameters = new URLSearchParams(query)
  const [expires, signature] = [parameters.getAll('expires'), parameters.getAll('signature')]
  if (expires.length === 0 && signature.length === 0) return { kind: 'absent' }
  const [expiry, ...moreExpiries] = expires
  const [signed, ...moreSignatures] = signature
  if (expiry === undefined || signed === undefined || moreExpiries.length + moreSignatures.length > 0)
    return { kind: 'wrong' }
  if (!/^[1-9]\d{0,10}$/.test(expiry)) return { kind: 'wrong' }
  const came = Buffer.from(signed, 'base64url')
  const expected = macOf(path, Number(expiry), key).digest()
  if (came.length !== expected.length || !timingSafeEqual(came, expected)) return { kind: 'wrong' }
  const expiredAt = new Date(Number(expiry) * 1000)
  return now < expiredAt ? { kind: 'valid' } : { kind: 'expired', expiredAt }
}

const macOf = (path: string, expires: number, key: KeyObject): Hmac =>
  createHmac('sha256', key).update(`${expires}\n${path}`)
