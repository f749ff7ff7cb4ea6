/** A `fetch` that tells how much of a body has been sent, which the browser's own does not. */

export interface Sending {
  /** What is sent; the request's own body is a copy of it. */
  readonly body: Blob
  readonly onSent: (bytes: number) => void
}

export function sendingFetch({ body, onSent }: Sending): (request: Request) => Promise<Response> {
  return (request) => {
    const { promise, resolve, reject } = Promise.withResolvers<Response>()
    const sending = new XMLHttpRequest()
    const abort = () => sending.abort()
    sending.open(request.method, request.url)
    sending.responseType = 'blob'
    for (const [name, value] of request.headers) sending.setRequestHeader(name, value)
    sending.upload.addEventListener('progress', ({ loaded }) => onSent(loaded))
    sending.addEventListener('load', () => resolve(responseOf(sending)))
    sending.addEventListener('error', () => reject(new TypeError(`cannot send to ${request.url}`)))
    sending.addEventListener('abort', () => reject(request.signal.reason))
    request.signal.addEventListener('abort', abort, { once: true })
    sending.send(body)
    return promise.finally(() => request.signal.removeEventListener('abort', abort))
  }
}

function responseOf(sent: XMLHttpRequest): Response {
  const { status, statusText } = sent
  return new Response(sent.response as Blob, { status, statusText, headers: headersOf(sent) })
}

function headersOf(sent: XMLHttpRequest): Headers {
  const headers = new Headers()
  for (const line of sent
    .getAllResponseHeaders()
    .trim()
    .split(/[\r\n]+/)) {
    const colon = line.indexOf(':')
    if (colon > 0) headers.append(line.slice(0, colon), line.slice(colon + 1).trim())
  }
  return headers
}
