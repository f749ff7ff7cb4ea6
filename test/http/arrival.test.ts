/** Property: a body may take its time as a whole or piece by piece, and no longer; who uses it may take any. */
import { createServer, request, type Server } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { PassThrough, Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { inTime, type Patience } from '../../src/http/arrival.ts'

const whole: Patience = { unit: 'body', ms: 300 }
const pieces: Patience = { unit: 'piece', ms: 300 }

async function* every(ms: number, count: number): AsyncGenerator<Buffer> {
  for (let i = 0; i < count; i++) {
    await sleep(ms)
    yield Buffer.from([i])
  }
}

test('a body that comes in time comes whole', async () => {
  for (const patience of [whole, pieces])
    expect(await buffer(inTime(Readable.from(every(1, 5)), patience))).toEqual(Buffer.from([0, 1, 2, 3, 4]))
})

test('a body that as a whole takes too long breaks off, a piece at a time it does not', async () => {
  const slow = () => Readable.from(every(100, 6))
  await expect(buffer(inTime(slow(), whole))).rejects.toMatchObject({ code: 'request_timeout', status: 408 })
  expect(await buffer(inTime(slow(), pieces))).toHaveLength(6)
})

test('silence breaks off either, and leaves the stream for whoever answers', async () => {
  for (const patience of [whole, pieces]) {
    const stream = new PassThrough()
    stream.write('x')
    await expect(buffer(inTime(stream, patience))).rejects.toMatchObject({ code: 'request_timeout' })
    expect(stream.destroyed).toBe(false)
  }
})

test('time that the bytes are used in is nobody’s silence', async () => {
  const stream = inTime(Readable.from(every(1, 3)), pieces)
  let length = 0
  for await (const piece of stream as AsyncIterable<Buffer>) {
    await sleep(400)
    length += piece.length
  }
  expect(length).toBe(3)
})

/** Sends the first byte of a body, and hangs up. */
async function breakOff(server: Server): Promise<void> {
  const { port } = server.address() as AddressInfo
  const outgoing = request({ port, host: '127.0.0.1', method: 'POST', headers: { 'content-length': '10' } })
  outgoing.on('error', () => undefined)
  outgoing.write('x')
  await once(outgoing, 'socket')
  await sleep(50)
  outgoing.destroy()
}

test('a client that breaks off is heard of', async () => {
  const broken = Promise.withResolvers<unknown>()
  const server = createServer((incoming) => {
    buffer(inTime(incoming, pieces)).catch((error: unknown) => broken.resolve(error))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  await breakOff(server)
  expect(await broken.promise).toMatchObject({ code: 'ECONNRESET' })
  server.close()
})

test('a client that breaks off a body that nobody reads any more ends nothing', async () => {
  const closed = Promise.withResolvers<Error | null>()
  const server = createServer((incoming) => {
    const stream = inTime(incoming, pieces)
    stream.on('data', () => undefined) // and none for errors, as after a refusal
    stream.on('close', () => closed.resolve(stream.errored))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  await breakOff(server)
  expect(await closed.promise).toMatchObject({ code: 'ECONNRESET' }) // and vitest counts what nobody caught
  server.close()
})
