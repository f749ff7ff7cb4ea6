/** Answers what is not even HTTP: such requests never reach a route, so the answer is written to the socket itself. */
import { randomUUID } from 'node:crypto'
import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { ConnectionError } from 'fastify'
import { ApiError } from './errors.ts'

function describe(code: string): ApiError {
  switch (code) {
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new ApiError('request_timeout', 'The request did not arrive in time')
    case 'HPE_HEADER_OVERFLOW':
      return new ApiError('headers_too_large', 'The headers are larger than this server reads')
    default:
      return new ApiError('malformed_request', 'Expected an HTTP/1.1 request, got something else')
  }
}

export function answerClientError(error: ConnectionError, socket: Socket): void {
  // Who has hung up hears nothing.
  if (error.code === 'ECONNRESET' || socket.destroyed || !socket.writable) {
    socket.destroy()
    return
  }
  const answer = describe(error.code)
  const requestId = `req_${randomUUID()}`
  const body = JSON.stringify(answer.toBody(requestId))
  const head = [
    `HTTP/1.1 ${answer.status} ${STATUS_CODES[answer.status]}`,
    'content-type: application/json; charset=utf-8',
    `content-length: ${Buffer.byteLength(body)}`,
    `x-request-id: ${requestId}`,
    'connection: close',
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`)
}
