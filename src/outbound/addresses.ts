/**
 * Which addresses a request on behalf of a client may go to: those of the public internet, and what the operator allows.
 *
 * An address is judged by what it leads to: one that carries an IPv4 address (mapped, RFC 4291; NAT64, RFC 6052) as that.
 * Tunnels that carry one as well (6to4, Teredo) are given up and lead nowhere.
 */
import ipaddr from 'ipaddr.js'

/** Reached from inside of clouds only, with public numbers. */
const platformAddresses = ['168.63.129.16']

/** Of IPv6 only this has been given out (IANA's registry of the address space). */
const globalUnicast = ipaddr.IPv6.parseCIDR('2000::/3')
const nat64 = ipaddr.IPv6.parseCIDR('64:ff9b::/96')

export type AllowedTarget =
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'range'; readonly range: [ipaddr.IPv4 | ipaddr.IPv6, number] }

/** @returns undefined for what is neither a host name nor an address nor a range of them */
export function parseAllowed(text: string): AllowedTarget | undefined {
  if (ipaddr.isValidCIDR(text)) return { kind: 'range', range: ipaddr.parseCIDR(text) }
  if (ipaddr.IPv4.isValidFourPartDecimal(text) || ipaddr.IPv6.isValid(text)) {
    const address = ipaddr.parse(text)
    return { kind: 'range', range: [address, address.kind() === 'ipv4' ? 32 : 128] }
  }
  const name = text.toLowerCase().replace(/\.$/, '')
  return /^(?!-)[a-z0-9-]+(\.[a-z0-9-]+)*$/.test(name) && !/^[\d.]+$/.test(name)
    ? { kind: 'name', name }
    : undefined
}

/** @param address as the resolver gives it or a URL has it, without brackets */
export function isAllowed(address: string, allowed: readonly AllowedTarget[]): boolean {
  if (!ipaddr.isValid(address)) return false
  const [, ...zone] = address.split('%')
  const target = leadsTo(ipaddr.parse(address))
  const isListed = allowed.some(
    (entry) => entry.kind === 'range' && entry.range[0].kind() === target.kind() && target.match(entry.range),
  )
  return isListed || (zone.length === 0 && isPublic(target))
}

export const isAllowedName = (name: string, allowed: readonly AllowedTarget[]): boolean =>
  allowed.some((entry) => entry.kind === 'name' && entry.name === name.toLowerCase().replace(/\.$/, ''))

function isPublic(address: ipaddr.IPv4 | ipaddr.IPv6): boolean {
  if (address.range() !== 'unicast') return false
  return address instanceof ipaddr.IPv4
    ? !platformAddresses.includes(address.toString())
    : address.match(globalUnicast)
}

function leadsTo(address: ipaddr.IPv4 | ipaddr.IPv6): ipaddr.IPv4 | ipaddr.IPv6 {
  if (address instanceof ipaddr.IPv4) return address
  if (address.isIPv4MappedAddress()) return address.toIPv4Address()
  if (address.match(nat64)) return new ipaddr.IPv4(address.toByteArray().slice(-4))
  return address
}
