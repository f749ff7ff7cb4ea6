/**
 * A key as its holder has it: `atl_`, 40 random characters of base 62 (238 bits), and a checksum of six.
 *
 * The first eight random characters are shown in lists, so that people know their keys apart; the other 32 (190 bits) stay
 * secret. The checksum tells a key that was cut or mistyped from one that is not known, without a look at the database, and lets
 * scanners find keys in places where none should be.
 */
import { hash, randomInt } from 'node:crypto'
import { crc32 } from 'node:zlib'

const mark = 'atl_'
const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const [randomLength, checksumLength, shownLength] = [40, 6, 8]
const shape = new RegExp(`^${mark}[0-9A-Za-z]{${randomLength + checksumLength}}$`)

export function newKeyText(): string {
  const random = Array.from({ length: randomLength }, () => alphabet[randomInt(alphabet.length)])
  const body = `${mark}${random.join('')}`
  return `${body}${checksumOf(body)}`
}

/** What a text that is no key is: nothing like one, or one with a mistake in it; undefined for what may be a key. */
export function faultOf(text: string): 'malformed' | 'mistyped' | undefined {
  if (!shape.test(text)) return text.startsWith(mark) ? 'mistyped' : 'malformed'
  const body = text.slice(0, -checksumLength)
  return text === `${body}${checksumOf(body)}` ? undefined : 'mistyped'
}

/** What people may see of a key. */
export const prefixOf = (text: string): string => text.slice(0, mark.length + shownLength)

/**
 * What is kept of a key. Slow and salted hashes protect passwords, which can be guessed; among 2^190 there is nothing to guess, so
 * one round of SHA-256 gives nothing away, and being the same each time it can be looked up by an index.
 */
export const hashOf = (text: string): string => hash('sha256', text)

function checksumOf(body: string): string {
  let rest = crc32(body)
  let digits = ''
  for (let place = 0; place < checksumLength; place++) {
    digits = `${alphabet[rest % alphabet.length]}${digits}`
    rest = Math.floor(rest / alphabet.length)
  }
  return digits
}
