/** Everything that can be wrong with one file of a dataset: one clear entry each. */

/** `left_out`: the file is not in the dataset. `kept`: the picture is, without what was wrong. */
export type ProblemEffect = 'left_out' | 'kept'

export const problemEffects = {
  /** The name is absolute, climbs out, or is none. */
  unsafe_path: 'left_out',
  /** A link, a device, a pipe. */
  not_a_file: 'left_out',
  /** An earlier file has the same name. */
  duplicate_path: 'left_out',
  file_too_large: 'left_out',
  unsupported_file: 'left_out',
  nested_archive: 'left_out',
  /** Its bytes cannot be had: encrypted, an unknown compression, a wrong checksum. */
  damaged_file: 'left_out',
  /** It is no picture, or breaks off in the middle. */
  unreadable_picture: 'left_out',
  too_many_pixels: 'left_out',
  /** The same bytes as an earlier picture. */
  duplicate_picture: 'left_out',
  empty_caption: 'kept',
  /** Not UTF-8, or characters that no text has. */
  invalid_text: 'kept',
  text_too_long: 'kept',
  /** A row that does not say what a row must say. */
  invalid_metadata: 'kept',
  /** Two rows say different things of one picture. */
  conflicting_metadata: 'kept',
  /** A row for a picture that is not there. */
  missing_picture: 'kept',
  /** A text beside no picture. */
  unmatched_text: 'kept',
} as const satisfies Record<string, ProblemEffect>

export type ProblemCode = keyof typeof problemEffects

/** What makes a caption one that cannot be used. */
export const captionProblems = [
  'empty_caption',
  'invalid_text',
  'text_too_long',
] as const satisfies readonly ProblemCode[]

export const isCaptionProblem = ({ code }: Pick<Problem, 'code'>): boolean =>
  captionProblems.some((known) => known === code)

export interface Problem {
  /** The file's name as it was given, shortened. */
  readonly path: string
  readonly code: ProblemCode
  /** What was expected and what came. */
  readonly message: string
  /** The picture that it is about, where that is in the dataset. */
  readonly itemId?: string | undefined
}

const longestPath = 200
const longestMessage = 500

/** @param path and message may hold anything, as messages of parsers quote what they parse */
export function problem(path: string, code: ProblemCode, message: string, itemId?: string): Problem {
  return {
    path: shortenPath(path),
    code,
    message: asPlainText(message.slice(0, longestMessage)),
    ...(itemId !== undefined && { itemId }),
  }
}

export const isLeftOut = ({ code }: Problem): boolean => problemEffects[code] === 'left_out'

/** @returns of a long path its end, which tells more */
export const shortenPath = (path: string): string =>
  asPlainText(path.length <= longestPath ? path : `…${path.slice(-longestPath)}`)

/** @returns text that the database and a terminal can hold: control characters are made visible */
export const asPlainText = (text: string): string => text.toWellFormed().replaceAll(/\p{Cc}/gu, '�')
