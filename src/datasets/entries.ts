/** What is in a dataset as it comes, one file after the other, whether out of an archive or a folder. */
import type { Readable } from 'node:stream'
import type { ProblemCode } from './problems.ts'

export interface FileEntry {
  readonly kind: 'file'
  /** As it was given. */
  readonly name: string
  /** As announced. */
  readonly sizeBytes: number
  /** Where it lies, when it lies somewhere by itself. */
  readonly file?: string
  /** The bytes; to be read before the next entry is asked for, or not at all. */
  open(): Promise<Readable>
}

export interface RefusedEntry {
  readonly kind: 'refused'
  readonly name: string
  readonly code: ProblemCode
  readonly message: string
}

export type Entry = FileEntry | RefusedEntry

/** More bytes than a file may have. */
export class TooManyBytes extends Error {
  override readonly name = 'TooManyBytes'
}

/** @throws {TooManyBytes} in the middle, whatever size was announced */
export async function* boundedBytes(stream: Readable, maxBytes: number): AsyncGenerator<Buffer> {
  let total = 0
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    total += chunk.length
    if (total > maxBytes) throw new TooManyBytes(`expected at most ${maxBytes} bytes, got more`)
    yield chunk
  }
}

/** @throws {TooManyBytes} */
export async function readBounded(stream: Readable, maxBytes: number): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(boundedBytes(stream, maxBytes)))
}
