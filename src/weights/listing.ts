/** Long lists in error messages: sorted, the first few in full, the rest counted. */

const shown = 12

/** `missing 3: a, b, c`; nothing for an empty list. */
export function listing(title: string, items: Iterable<string>): string[] {
  const sorted = [...items].sort()
  if (sorted.length === 0) return []
  const rest = sorted.length > shown ? `, … and ${sorted.length - shown} more` : ''
  return [`${title} ${sorted.length}: ${sorted.slice(0, shown).join(', ')}${rest}`]
}
