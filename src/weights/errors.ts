/** The one error of this room: what is wrong with a weight file or a checkpoint folder, where, what was expected and what came. */

/** What kind of thing is wrong; stable, for programs. The message is for people. */
export type Violation =
  | 'unreadable'
  | 'unwritable'
  | 'truncated'
  | 'header_size'
  | 'header_text'
  | 'duplicate_key'
  | 'metadata'
  | 'tensor_entry'
  | 'dtype'
  | 'shape'
  | 'offsets'
  | 'size'
  | 'overlap'
  | 'hole'
  | 'name'
  | 'data'
  | 'index'
  | 'json'
  | 'layout'
  | 'keys'
  | 'overflow'

export interface WeightsProblem {
  readonly violation: Violation
  /** File or folder that the problem is in. */
  readonly file: string
  /** Tensor that the problem is in, where it is in one. */
  readonly tensor?: string
  readonly expected: string
  readonly got: string
  readonly cause?: unknown
}

export class WeightsError extends Error {
  override readonly name = 'WeightsError'
  readonly violation: Violation
  readonly file: string
  readonly tensor: string | undefined
  readonly expected: string
  readonly got: string

  constructor({ violation, file, tensor, expected, got, cause }: WeightsProblem) {
    const place = tensor === undefined ? file : `${file}: tensor ${quote(tensor)}`
    super(`${place}: expected ${expected}, got ${got}`, cause === undefined ? {} : { cause })
    this.violation = violation
    this.file = file
    this.tensor = tensor
    this.expected = expected
    this.got = got
  }
}

/** A name from a file as one short printable token: hostile headers must not fill a log. */
export function quote(text: string): string {
  return JSON.stringify(text.length <= 160 ? text : `${text.slice(0, 157)}…`)
}
