/** Whether an answer of one media type would do for the client (RFC 9110, section 12.5.1). */

/** @param type in lower case, without parameters @returns also true when the client does not say what it accepts */
export function accepts(accept: string | undefined, type: string): boolean {
  if (accept === undefined || accept.trim() === '') return true
  const [family = ''] = type.split('/')
  const ranges = accept.split(',').map((range) => {
    const [name = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase())
    const quality = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2) ?? '1'
    return { name, isWanted: Number(quality) > 0 }
  })
  // The most specific range decides.
  const decisive = [type, `${family}/*`, '*/*'].map((name) => ranges.find((range) => range.name === name))
  return decisive.find((range) => range !== undefined)?.isWanted ?? false
}
