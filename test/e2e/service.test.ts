/** The whole service as its users meet it: real processes, real clients, real pictures. */
import { createHash } from 'node:crypto'
import OpenAI from 'openai'
import sharp from 'sharp'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { enlarge } from '../../src/diffusion/enlarge.ts'
import { createAtelier } from '../../src/sdk/index.ts'
import { callControl } from '../../src/storage/control.ts'
import { childrenOf, startServer, temporaryFolder, type Server } from './server.ts'

let folder: Awaited<ReturnType<typeof temporaryFolder>>
let server: Server

beforeAll(async () => {
  folder = await temporaryFolder()
  server = await startServer({ dataDir: folder.path })
})

afterAll(async () => {
  await server.stop()
  await folder[Symbol.asyncDispose]()
})

const openai = () => new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 })
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

async function running(): Promise<number> {
  const answer = await callControl(server.dataDir, 'status', {})
  if (answer.state === 'no_server') throw new Error('the server does not answer')
  return (answer.result as { running: number }).running
}

test('the openai client gets a picture as base64 and as a url', async () => {
  const ours = { seed: 7, steps: 2 } // fields that its types do not know
  const client = openai()
  const inline = await client.images.generate({
    model: 'dall-e-3',
    prompt: 'a red apple',
    size: '512x512',
    response_format: 'b64_json',
    ...ours,
  })
  const bytes = Buffer.from(inline.data![0]!.b64_json!, 'base64')
  const { format, width, height } = await sharp(bytes).metadata()
  expect({ format, width, height }).toEqual({ format: 'png', width: 512, height: 512 })

  const linked = await client.images.generate({
    prompt: 'a red apple',
    size: '512x512',
    ...ours,
  })
  const response = await fetch(linked.data![0]!.url!)
  expect(response.headers.get('content-type')).toBe('image/png')
  expect(sha256(new Uint8Array(await response.arrayBuffer()))).toBe(sha256(bytes))
})

test('a size beyond the model’s is its own picture enlarged, and says so', async () => {
  const client = createAtelier({ baseUrl: server.url })
  const common = { prompt: 'a tower', steps: 2, seed: 5, response_format: 'b64_json' } as const
  const [own, tall] = [
    await client.images.generate({ ...common, size: '352x704' }),
    await client.images.generate({ ...common, size: '512x1024' }),
  ]
  expect(own).toMatchObject({ size: '352x704', generated_size: '352x704', upscaled: false })
  expect(tall).toMatchObject({ size: '512x1024', generated_size: '352x704', upscaled: true })
  const pixels = async ({ data: [picture] }: typeof own) =>
    new Uint8Array(await sharp(Buffer.from(picture!.b64_json!, 'base64')).raw().toBuffer())
  const expected = enlarge(await pixels(own), { width: 352, height: 704 }, { width: 512, height: 1024 })
  expect(Buffer.compare(await pixels(tall), expected)).toBe(0)
})

test('picture i of n is the one that its own seed and index make alone', async () => {
  const client = createAtelier({ baseUrl: server.url })
  const common = { prompt: 'two birds', size: '256x384', steps: 2, response_format: 'b64_json' } as const
  const both = await client.images.generate({ ...common, n: 2, seed: 11 })
  const [, second] = both.data
  const alone = await client.images.generate({
    ...common,
    seed: second!.seed,
    seed_index: second!.seed_index,
  })
  const pixels = (item: { b64_json?: string }) =>
    sharp(Buffer.from(item.b64_json!, 'base64')).raw().toBuffer()
  expect(await pixels(alone.data[0]!)).toEqual(await pixels(second!))
  expect(await pixels(both.data[0]!)).not.toEqual(await pixels(second!))
})

test('a device process that is killed in the middle is replaced, and the caller gets the same picture', async () => {
  const client = createAtelier({ baseUrl: server.url })
  const request = {
    prompt: 'a lighthouse',
    size: '512x512',
    steps: 25,
    seed: 3,
    response_format: 'b64_json',
  } as const
  const undisturbed = await client.images.generate(request)

  const [device] = await childrenOf(server.pid)
  const disturbed = client.images.generate(request)
  await expect.poll(running, { interval: 5 }).toBe(1)
  process.kill(device!, 'SIGKILL')
  expect((await disturbed).data[0]!.b64_json).toBe(undisturbed.data[0]!.b64_json)

  const [replacement] = await childrenOf(server.pid)
  expect(replacement).not.toBe(device)
  expect(server.output.some((line) => line.includes('the device process died'))).toBe(true)
})

test('a generation is watched step by step, its previews grow into the picture, and it has its batch on record', async () => {
  const client = createAtelier({ baseUrl: server.url })
  const request = { prompt: 'a harbour at dawn', size: '512x512', steps: 12, preview_every: 4 } as const
  const [watched, beside] = await Promise.all([1, 2].map(() => client.generations.create(request)))
  const events = await Array.fromAsync(client.generations.events(watched!.id))
  expect(events.map(({ id }) => id)).toEqual(events.map((_, index) => index + 1))
  expect(events[0]!.type).toBe('queued')
  expect(events.at(-1)!.type).toBe('succeeded')
  const previews = events.filter((event) => event.type === 'preview')
  expect(previews.map(({ step }) => step)).toEqual([4, 8])
  for (const { url } of previews) {
    const picture = await fetch(url)
    expect((await sharp(await picture.arrayBuffer()).metadata()).format).toBe('webp')
  }
  const ended = await client.generations.wait(beside!.id)
  expect(ended).toMatchObject({ state: 'succeeded', receipt: { row_steps: 24 } })
  expect(ended.receipt!.batch_rows_max).toBeGreaterThanOrEqual(2)
})

test('a running generation that is cancelled frees its device', async () => {
  const client = createAtelier({ baseUrl: server.url })
  const { id } = await client.generations.create({ prompt: 'for ever', size: '512x512', steps: 100, n: 10 })
  await expect.poll(running, { interval: 5 }).toBe(1)
  expect(await client.generations.cancel(id)).toMatchObject({ id, state: 'cancelled' })
  await expect.poll(running).toBe(0)
  const next = await client.generations.create({ prompt: 'now me', steps: 1 }, { waitSeconds: 30 })
  expect(next.state).toBe('succeeded')
})

test('a client that leaves cancels its request', async () => {
  const leave = new AbortController()
  const body = JSON.stringify({ prompt: 'a very long picture', size: '512x512', steps: 100, n: 10 })
  const response = fetch(`${server.url}/v1/images/generations`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body,
    signal: leave.signal,
  })
  await expect.poll(running, { interval: 5 }).toBe(1)
  leave.abort()
  await expect(response).rejects.toThrow('aborted')
  await expect.poll(running).toBe(0)
})

test('a second server on the same data folder is refused with the name of the first', async () => {
  await expect(startServer({ dataDir: server.dataDir })).rejects.toThrow(
    new RegExp(`in use by process ${server.pid}`),
  )
})

test.each([
  [{ ATELIER_STEPZ: '3' }, /ATELIER_STEPZ/],
  [{ ATELIER_MAX_SIDE: 'huge' }, /ATELIER_MAX_SIDE: expected a whole number from 64 to 8192, got "huge"/],
  [{ ATELIER_MODEL: '/nowhere' }, /expected a model folder.*\/nowhere/],
])('a wrong setting stops the start with one line that names it: %o', async (environment, message) => {
  await using other = await temporaryFolder()
  await expect(startServer({ dataDir: other.path, environment })).rejects.toThrow(message)
})

test('a server that is told to stop ends in order, and its pictures are there when it comes back', async () => {
  await using own = await temporaryFolder()
  const first = await startServer({ dataDir: own.path })
  const made = await createAtelier({ baseUrl: first.url }).images.generate({
    prompt: 'a tree',
    size: '256x256',
    steps: 1,
  })
  expect(await first.stop()).toBe(0)

  const second = await startServer({ dataDir: own.path })
  try {
    const { id } = made.data[0]!
    const again = await fetch(`${second.url}/v1/images/${id}/content`)
    expect(again.status).toBe(200)
    expect((await sharp(Buffer.from(await again.arrayBuffer())).metadata()).width).toBe(256)
  } finally {
    await second.stop()
  }
})
