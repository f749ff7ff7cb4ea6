/** Conditional and range requests for bytes that never change (RFC 9110, sections 13 and 14). */

export type RequestedRange =
  | { readonly kind: 'whole' }
  /** Both ends belong to it. */
  | { readonly kind: 'part'; readonly start: number; readonly end: number }
  | { readonly kind: 'unsatisfiable' }

interface RangeHeaders {
  readonly range?: string | undefined
  readonly 'if-range'?: string | undefined
}

/**
 * @param etag a strong one, quoted
 * @returns which bytes to send. Other units and several ranges mean the whole, as section 14.2 allows; a malformed range
 *   is refused like one outside the bytes, which section 15.5.17 allows, because ignoring it would hide the mistake
 */
export function readRange(
  { range, 'if-range': ifRange }: RangeHeaders,
  etag: string,
  sizeBytes: number,
): RequestedRange {
  const specifier = range === undefined ? undefined : /^\s*bytes\s*=(.*)$/i.exec(range)?.[1]
  // If-Range compares strongly, and a date never matches: we send none.
  if (specifier === undefined || (ifRange !== undefined && ifRange !== etag)) return { kind: 'whole' }
  if (specifier.includes(',')) return { kind: 'whole' }

  const [, first = '', last = ''] = /^\s*(\d*)-(\d*)\s*$/.exec(specifier) ?? []
  if (first === '') {
    const length = Number(last)
    if (last === '' || length === 0) return { kind: 'unsatisfiable' }
    return { kind: 'part', start: Math.max(0, sizeBytes - length), end: sizeBytes - 1 }
  }
  const start = Number(first)
  const end = last === '' ? sizeBytes - 1 : Math.min(Number(last), sizeBytes - 1)
  return start <= end ? { kind: 'part', start, end } : { kind: 'unsatisfiable' }
}

/** @returns whether If-None-Match names the ETag, by the weak comparison of section 13.1.2 */
export function isNotModified(ifNoneMatch: string | undefined, etag: string): boolean {
  if (ifNoneMatch === undefined) return false
  if (ifNoneMatch.trim() === '*') return true
  return (ifNoneMatch.match(/(?:W\/)?"[^"]*"/g) ?? []).some((tag) => tag.replace(/^W\//, '') === etag)
}
