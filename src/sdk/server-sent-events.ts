/** Reads a stream of server-sent events (HTML standard, section 9.2.6), and notices when it falls silent. */
import { AtelierError } from './errors.ts'

export interface Message {
  readonly event: string
  readonly data: string
}

/** The service is never silent for longer than 15 seconds. */
export const silenceMs = 60_000

/** Ends where the stream ends. @throws {AtelierError} `connection_failed` when it breaks or falls silent */
export async function* readMessages(
  body: ReadableStream<Uint8Array>,
  longestSilenceMs: number = silenceMs,
): AsyncGenerator<Message> {
  let event = 'message'
  let data: string[] = []
  for await (const line of readLines(body, longestSilenceMs)) {
    if (line === '') {
      if (data.length > 0) yield { event, data: data.join('\n') }
      event = 'message'
      data = []
      continue
    }
    const [, field = '', value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? []
    if (field === 'event') event = value
    else if (field === 'data') data.push(value)
  }
}

async function* readLines(
  body: ReadableStream<Uint8Array>,
  longestSilenceMs: number,
): AsyncGenerator<string> {
  const reader = body.getReader()
  const decoder = new TextDecoder()
  let rest = ''
  try {
    for (;;) {
      const { done, value } = await within(reader.read(), longestSilenceMs)
      if (done) return
      rest += decoder.decode(value, { stream: true })
      // A carriage return at the end may be half of a line break.
      const lines = rest.split(/\r\n|\n|\r(?!$)/)
      rest = lines.pop() ?? ''
      yield* lines
    }
  } finally {
    // Not awaited: a connection that is dead may never say so.
    reader.cancel().catch(() => undefined)
  }
}

function within<T>(reading: Promise<T>, timeoutMs: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const fail = (message: string, cause?: unknown) =>
      reject(new AtelierError(message, { code: 'connection_failed', cause }))
    const timer = setTimeout(() => fail(`no event for ${timeoutMs} ms`), timeoutMs)
    reading
      .then(resolve, (cause: unknown) => fail('the connection broke', cause))
      .finally(() => clearTimeout(timer))
  })
}
