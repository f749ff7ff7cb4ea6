/** Captions, labels and scores as datasets write them: a text beside each picture, or rows that name their picture. */
import type { Readable } from 'node:stream'
import { Readable as NodeReadable } from 'node:stream'
import { parse } from 'csv-parse'
import { boundedBytes } from './entries.ts'
import type { EntryName } from './entry-name.ts'
import { messageOf } from './errors.ts'
import type { DatasetLimits } from './limits.ts'
import { problem, type Problem, type ProblemCode } from './problems.ts'

/** What one row says of one picture. */
export interface MetadataRow {
  /** As written: relative to the folder of the file that the row is in. */
  readonly file: string
  readonly captions: readonly string[]
  /** Captions of nothing but blanks were left out. */
  readonly hasEmptyCaption: boolean
  readonly label: string | undefined
  readonly aestheticScore: number | undefined
}

type RowReading =
  | { readonly kind: 'row'; readonly row: MetadataRow }
  | { readonly kind: 'problem'; readonly problem: Problem }

/** `captions.jsonl` is our own; the others are those of Hugging Face's imagefolder. */
export type MetadataFormat = 'jsonl' | 'csv'

export function metadataFormatOf({ path, folder }: EntryName & { kind: 'file' }): MetadataFormat | undefined {
  switch (folder === '' ? path : path.slice(folder.length + 1)) {
    case 'captions.jsonl':
    case 'metadata.jsonl':
      return 'jsonl'
    case 'metadata.csv':
      return 'csv'
    default:
      return undefined
  }
}

/** @returns the caption, or what is wrong with it */
export function readSidecar(
  bytes: Buffer,
  { maxCaptionLength }: DatasetLimits,
): { caption: string } | { code: ProblemCode; message: string } {
  const text = decode(bytes)
  if (text === undefined) return { code: 'invalid_text', message: 'expected UTF-8 text, got other bytes' }
  const caption = text.trim()
  const wrong = wrongWith(caption, maxCaptionLength)
  if (wrong) return wrong
  if (caption === '') return { code: 'empty_caption', message: 'expected a caption, got an empty text' }
  return { caption }
}

function decode(bytes: Buffer): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    return undefined
  }
}

function wrongWith(text: string, maxLength: number): { code: ProblemCode; message: string } | undefined {
  if (text.length > maxLength) {
    const message = `expected at most ${maxLength} characters, got ${text.length}`
    return { code: 'text_too_long', message }
  }
  if (text.includes('\0') || !text.isWellFormed())
    return { code: 'invalid_text', message: 'expected text, got U+0000 or half a surrogate pair' }
  return undefined
}

/** @throws {TooManyBytes}, and what reading runs into */
export async function* readMetadata(
  path: string,
  format: MetadataFormat,
  stream: Readable,
  limits: DatasetLimits,
): AsyncGenerator<RowReading> {
  const bytes = boundedBytes(stream, limits.maxMetadataBytes)
  const records = format === 'jsonl' ? jsonRecords(bytes, limits) : csvRecords(bytes, limits)
  for await (const { line, ...read } of records) {
    const result = 'value' in read ? readRow(read.value, limits) : read
    if ('row' in result) yield { kind: 'row', row: result.row }
    else
      yield {
        kind: 'problem',
        problem: problem(path, result.code ?? 'invalid_metadata', `line ${line}: ${result.wrong}`),
      }
  }
}

type Wrong = { readonly wrong: string; readonly code?: ProblemCode }
type RecordReading = { readonly line: number } & ({ readonly value: unknown } | Wrong)

async function* jsonRecords(
  bytes: AsyncIterable<Buffer>,
  { maxRowBytes }: DatasetLimits,
): AsyncGenerator<RecordReading> {
  let line = 0
  for await (const raw of splitLines(bytes, maxRowBytes)) {
    line += 1
    if (raw === 'too long') yield { line, wrong: `expected at most ${maxRowBytes} bytes, got more` }
    else yield* jsonRecord(raw, line)
  }
}

function* jsonRecord(raw: Buffer, line: number): Generator<RecordReading> {
  const text = decode(raw)
  if (text === undefined) yield { line, code: 'invalid_text', wrong: 'expected UTF-8 text, got other bytes' }
  else if (text.trim() !== '') {
    try {
      yield { line, value: JSON.parse(text) as unknown }
    } catch {
      yield { line, wrong: 'expected a JSON object, got text that is not JSON' }
    }
  }
}

async function* splitLines(
  bytes: AsyncIterable<Buffer>,
  maxBytes: number,
): AsyncGenerator<Buffer | 'too long'> {
  let pieces: Buffer[] = []
  let length = 0
  const add = (piece: Buffer) => {
    length += piece.length
    if (length <= maxBytes) pieces.push(piece)
  }
  const take = (): Buffer | 'too long' => {
    const line = length > maxBytes ? 'too long' : Buffer.concat(pieces)
    pieces = []
    length = 0
    return line
  }
  for await (const chunk of bytes) {
    let start = 0
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
      add(chunk.subarray(start, end))
      yield take()
      start = end + 1
    }
    add(chunk.subarray(start))
  }
  if (length > 0) yield take()
}

async function* csvRecords(
  bytes: AsyncIterable<Buffer>,
  { maxRowBytes }: DatasetLimits,
): AsyncGenerator<RecordReading> {
  const skipped: { line: number; wrong: string }[] = []
  const parser = parse({
    bom: true,
    columns: true,
    info: true,
    max_record_size: maxRowBytes,
    skip_empty_lines: true,
    skip_records_with_error: true,
    on_skip: (error) => {
      skipped.push({ line: Number(error?.lines ?? 0), wrong: messageOf(error) })
      return undefined
    },
  })
  let line = 0
  try {
    const records = NodeReadable.from(utf8(bytes))
      .on('error', (error) => parser.destroy(error))
      .pipe(parser)
    for await (const { info, record } of records as AsyncIterable<{
      info: { lines: number }
      record: Record<string, string>
    }>) {
      yield* skipped.splice(0)
      line = info.lines
      yield { line, value: fromCsv(record) }
    }
    yield* skipped.splice(0)
  } catch (error) {
    // What is not CSV any more cannot be followed to the next row.
    yield { line: line + 1, wrong: `expected UTF-8 text in CSV, got something else (${messageOf(error)})` }
  }
}

async function* utf8(bytes: AsyncIterable<Buffer>): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  for await (const chunk of bytes) yield decoder.decode(chunk, { stream: true })
  yield decoder.decode()
}

/** In CSV everything is text, and what is left out is empty; a caption that is there and empty is told apart by its column. */
function fromCsv(record: Readonly<Record<string, string>>): Record<string, unknown> {
  const { label, aesthetic_score: score, captions: _captions, ...texts } = record
  return {
    ...texts,
    ...(label !== undefined && label.trim() !== '' && { label }),
    ...(score !== undefined && score.trim() !== '' && { aesthetic_score: Number(score) }),
  }
}

function readRow(value: unknown, limits: DatasetLimits): { row: MetadataRow } | Wrong {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return { wrong: 'expected an object with file_name, got something else' }
  const fields = new Map<string, unknown>(Object.entries(value).filter(([, field]) => field !== null))
  const file = fields.get('file_name') ?? fields.get('file')
  if (typeof file !== 'string' || file === '') return { wrong: 'expected file_name (or file), got none' }
  const texts = [fields.get('captions') ?? [], fields.get('caption') ?? fields.get('text') ?? []].flat()
  if (!texts.every((text) => typeof text === 'string'))
    return { wrong: 'expected text as caption, got something else' }
  if (texts.length > limits.maxCaptionsPerPicture)
    return { wrong: `expected at most ${limits.maxCaptionsPerPicture} captions, got ${texts.length}` }
  const trimmed = texts.map((text) => text.trim())
  for (const text of trimmed) {
    const wrong = wrongWith(text, limits.maxCaptionLength)
    if (wrong) return { code: wrong.code, wrong: wrong.message }
  }
  const label = readLabel(fields.get('label'))
  if (label === 'wrong')
    return { wrong: `expected label as a text of at most ${maxLabelLength} characters or a whole number` }
  const score = fields.get('aesthetic_score')
  if (score !== undefined && !(typeof score === 'number' && Number.isFinite(score)))
    return { wrong: 'expected aesthetic_score as a number, got something else' }
  return {
    row: {
      file,
      captions: trimmed.filter((text) => text !== ''),
      hasEmptyCaption: trimmed.includes(''),
      label: label?.text,
      aestheticScore: score,
    },
  }
}

export const maxLabelLength = 200

function readLabel(value: unknown): { text: string } | 'wrong' | undefined {
  if (value === undefined) return undefined
  const text = typeof value === 'number' && Number.isSafeInteger(value) ? String(value) : value
  if (typeof text !== 'string' || wrongWith(text, maxLabelLength)) return 'wrong'
  return text.trim() === '' ? undefined : { text: text.trim() }
}
