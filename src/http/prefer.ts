/** The Prefer header (RFC 7240), of which this service knows `wait`. */

export const longestWaitSeconds = 600

/**
 * @returns for how many seconds the client would like to wait, cut to what is allowed; undefined when it says nothing of it,
 *   or nothing that can be read: section 2 has such preferences ignored, and `Preference-Applied` tells
 */
export function readWait(prefer: string | string[] | undefined): number | undefined {
  // A quoted value may hold commas.
  const preferences =
    [prefer ?? []]
      .flat()
      .join(',')
      .match(/(?:"(?:\\.|[^"\\])*"|[^,"])+/g) ?? []
  for (const preference of preferences) {
    const [, seconds] = /^\s*wait\s*=\s*"?(\d{1,9})"?\s*(?:;.*)?$/i.exec(preference) ?? []
    // The first one of a name counts.
    if (seconds !== undefined) return Math.min(Number(seconds), longestWaitSeconds)
  }
  return undefined
}
