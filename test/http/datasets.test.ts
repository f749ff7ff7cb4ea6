/** `/v1/datasets` over HTTP: archives as bodies, folders, pages, pictures, edits, and what is refused. */
import { createHash } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { gzipSync } from 'node:zlib'
import type { FastifyInstance } from 'fastify'
import sharp from 'sharp'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { SchemaDataset, SchemaDatasetItemList, SchemaDatasetProblemList } from '../../src/sdk/schema.ts'
import { datasetFailureCodes } from '../../src/datasets/errors.ts'
import { labelSources } from '../../src/datasets/join.ts'
import { pictureFormats } from '../../src/datasets/pictures.ts'
import { problemEffects } from '../../src/datasets/problems.ts'
import { tar, zip } from '../datasets/archives.ts'
import { hollowPng, picture } from '../datasets/pictures.ts'
import { temporaryFolder } from '../storage/folders.ts'
import { send, type RawAnswer, type RawRequest } from './requests.ts'
import { fieldsOf } from './schemas.ts'
import { buildTestApp, listen, startTestService, type TestService } from './server.ts'

const busy = new Set<string>()
let foldersRoot: string
let service: TestService
let app: FastifyInstance
let address: string

beforeAll(async () => {
  foldersRoot = temporaryFolder()
  service = await startTestService({
    datasets: {
      foldersRoot,
      limits: { maxTotalBytes: 2_000_000 },
      inUse: async (_transaction, id) => busy.has(id),
    },
  })
  app = await buildTestApp(service.generation, { datasets: service.datasets })
  address = await listen(app)
})

afterAll(async () => {
  await app.close()
  await service.close()
})

const read = ({ body }: RawAnswer): unknown => JSON.parse(body)
const codeOf = (answer: RawAnswer) =>
  (read(answer) as { error: { code: string; param: string | null } }).error

const upload = (body: Buffer, type = 'application/zip', query = '?name=pets'): RawRequest => ({
  method: 'POST',
  path: `/v1/datasets${query}`,
  headers: { 'content-type': type, 'content-length': String(body.length) },
  body,
})
const json = (method: string, path: string, body: unknown): RawRequest => ({
  method,
  path,
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(body),
})
const get = (path: string) => send(address, { path })

const someFiles = async () => [
  { name: 'cats/a.png', data: await picture(1) },
  { name: 'cats/a.txt', data: 'a cat' },
  { name: 'dogs/b.jpg', data: await picture(2, { format: 'jpeg', width: 64, height: 32 }) },
  { name: 'dogs/huge.png', data: hollowPng(50_000, 50_000) },
]

async function ready(body: Buffer, type?: string, query?: string): Promise<SchemaDataset> {
  const answer = await send(address, upload(body, type, query))
  expect(answer.status).toBe(202)
  const { id } = read(answer) as SchemaDataset
  await service.datasets.settled(id)
  return read(await get(`/v1/datasets/${id}`)) as SchemaDataset
}

test.each([
  ['application/zip', zip],
  ['application/x-tar', tar],
  ['application/gzip', (files: Parameters<typeof tar>[0]) => gzipSync(tar(files))],
  ['application/octet-stream', tar],
])('an archive of type %s is received, checked and described', async (type, pack) => {
  const body = pack(await someFiles())
  const answer = await send(address, upload(body, type))
  const created = read(answer) as SchemaDataset
  expect(answer).toMatchObject({
    status: 202,
    headers: { location: `${address}/v1/datasets/${created.id}` },
  })
  expect(created).toMatchObject({ object: 'dataset', name: 'pets', error: null, labels: null, buckets: null })
  await service.datasets.settled(created.id)
  expect(read(await get(`/v1/datasets/${created.id}?resolution=256`)) as SchemaDataset).toMatchObject({
    state: 'ready',
    source: { kind: 'upload', received_bytes: body.length, expected_bytes: body.length, folder: null },
    label_source: 'auto',
    counts: { files_read: 4, items: 2, captioned: 1, labelled: 2, scored: 0, problems: 1, left_out: 1 },
    captioned_share: 0.5,
    labels: [
      { label: 'cats', items: 1 },
      { label: 'dogs', items: 1 },
    ],
    buckets: [
      { width: 304, height: 208, items: 1 },
      { width: 352, height: 176, items: 1 },
    ],
  })
})

test('a folder of the server is copied, from below the root alone', async () => {
  mkdirSync(join(foldersRoot, 'pets'))
  writeFileSync(join(foldersRoot, 'pets', 'a.png'), await picture(9))
  const answer = await send(address, json('POST', '/v1/datasets', { name: 'x', folder: 'pets' }))
  expect(answer.status).toBe(202)
  const { id } = read(answer) as SchemaDataset
  await service.datasets.settled(id)
  expect(read(await get(`/v1/datasets/${id}`))).toMatchObject({
    state: 'ready',
    source: { kind: 'folder', folder: 'pets', received_bytes: null },
    counts: { items: 1 },
  })
  for (const folder of ['..', '/etc', 'none']) {
    const refused = await send(address, json('POST', '/v1/datasets', { name: 'x', folder }))
    expect([refused.status, codeOf(refused)]).toMatchObject([400, { code: 'invalid_value', param: 'folder' }])
  }
})

test('items are paged, filtered, changed and shown', async () => {
  const { id } = await ready(zip(await someFiles()))
  const items = `/v1/datasets/${id}/items`
  const first = read(await get(`${items}?limit=1`)) as SchemaDatasetItemList
  expect(first.data.map(({ path }) => path)).toEqual(['cats/a.png'])
  const second = read(await get(`${items}?limit=1&cursor=${first.next_cursor}`)) as SchemaDatasetItemList
  expect(second).toMatchObject({
    next_cursor: null,
    data: [{ path: 'dogs/b.jpg', captions: [], label: 'dogs' }],
  })
  const dog = second.data[0]
  if (!dog) throw new Error('no picture')
  for (const query of ['filter=uncaptioned', 'label=dogs'])
    expect((read(await get(`${items}?${query}`)) as SchemaDatasetItemList).data).toEqual([dog])
  expect((read(await get(`${items}?filter=problems`)) as SchemaDatasetItemList).data).toEqual([])

  const path = `${items}/${dog.id}`
  const changes = { captions: [' a dog '], label: null, aesthetic_score: 6.25 }
  const changed = { ...dog, captions: ['a dog'], label: null, aesthetic_score: 6.25 }
  expect(read(await send(address, json('PATCH', path, changes)))).toEqual(changed)
  expect(read(await send(address, json('PATCH', path, {})))).toEqual(changed)
  for (const label of ['a\tb', 'a\n', '\u0007', '\u009f', ' ']) {
    const refused = await send(address, json('PATCH', path, { label }))
    expect([refused.status, codeOf(refused)]).toMatchObject([400, { code: 'invalid_value', param: 'label' }])
  }
  expect(read(await get(path))).toEqual(changed)
  expect(read(await get(`/v1/datasets/${id}`))).toMatchObject({ captioned_share: 1, counts: { scored: 1 } })

  const whole = await fetch(dog.url)
  const bytes = Buffer.from(await whole.arrayBuffer())
  expect(createHash('sha256').update(bytes).digest('hex')).toBe(dog.sha256)
  expect(Object.fromEntries(whole.headers)).toMatchObject({
    'content-type': 'image/jpeg',
    'x-content-type-options': 'nosniff',
    etag: `"${dog.sha256}"`,
  })
  const small = await fetch(`${dog.url}&max_side=16`)
  expect(await sharp(await small.arrayBuffer()).metadata()).toMatchObject({
    format: 'webp',
    width: 16,
    height: 8,
  })
  const etag = small.headers.get('etag') ?? ''
  const again = await fetch(`${dog.url}&max_side=16`, { headers: { 'if-none-match': etag } })
  expect(again.status).toBe(304)
})

test('problems are listed', async () => {
  const { id } = await ready(zip(await someFiles()))
  expect(read(await get(`/v1/datasets/${id}/problems`)) as SchemaDatasetProblemList).toEqual({
    object: 'list',
    next_cursor: null,
    data: [
      {
        path: 'dogs/huge.png',
        code: 'too_many_pixels',
        message: 'expected at most 67108864 pixels, got 50000 × 50000',
        effect: 'left_out',
        item_id: null,
      },
    ],
  })
})

test('datasets are listed, newest first, and deleted unless a job works with them', async () => {
  const body = zip(await someFiles())
  const older = await ready(body)
  const newer = await ready(body, 'application/zip', '?name=newer&label_source=none')
  expect(newer).toMatchObject({ label_source: 'none', counts: { labelled: 0 }, labels: [] })
  const page = read(await get('/v1/datasets?limit=1')) as { data: SchemaDataset[]; next_cursor: string }
  expect(page.data).toEqual([{ ...newer, labels: null }])
  const next = read(await get(`/v1/datasets?limit=1&cursor=${page.next_cursor}`)) as { data: SchemaDataset[] }
  expect(next.data.map(({ id }) => id)).toEqual([older.id])

  const remove = { method: 'DELETE', path: `/v1/datasets/${older.id}` }
  busy.add(older.id)
  const refused = await send(address, remove)
  expect([refused.status, codeOf(refused).code]).toEqual([409, 'dataset_in_use'])
  const odd = await send(address, { path: `/v1/datasets/${older.id}/items?label=%00` })
  expect([odd.status, codeOf(odd)]).toMatchObject([400, { code: 'invalid_value', param: 'label' }])
  busy.clear()
  expect((await send(address, remove)).status).toBe(204)
  const gone = await send(address, remove)
  expect([gone.status, codeOf(gone).code]).toEqual([404, 'dataset_not_found'])
})

test('codes, formats and sources of labels are those that the service knows', () => {
  expect(fieldsOf('DatasetFailure')['code']?.enum).toEqual(datasetFailureCodes)
  expect(fieldsOf('DatasetProblem')['code']?.enum).toEqual(Object.keys(problemEffects))
  expect(fieldsOf('DatasetItem')['format']?.enum).toEqual(pictureFormats)
  expect(fieldsOf('Dataset')['label_source']?.enum).toEqual(labelSources)
})

test('a set without a picture fails with a reason', async () => {
  const dataset = await ready(tar([{ name: 'a.txt', data: 'a caption' }]), 'application/x-tar')
  expect(dataset).toMatchObject({ state: 'failed', error: { code: 'no_pictures' }, captioned_share: null })
})

test.each<[string, () => RawRequest | Promise<RawRequest>, number, string, string | null]>([
  ['no archive', () => upload(Buffer.from('hello')), 400, 'invalid_archive', 'body'],
  ['nothing', () => upload(Buffer.alloc(0)), 400, 'invalid_archive', 'body'],
  [
    'an archive without a name',
    () => upload(tar([]), 'application/x-tar', ''),
    400,
    'missing_required_parameter',
    'name',
  ],
  ['a name of blanks', () => upload(tar([]), 'application/x-tar', '?name=%20'), 400, 'invalid_value', 'name'],
  ['another query', () => upload(tar([]), 'application/x-tar', '?name=x&n=1'), 400, 'unknown_parameter', 'n'],
  [
    'another source of labels',
    () => upload(tar([]), 'application/x-tar', '?name=x&label_source=x'),
    400,
    'invalid_value',
    'label_source',
  ],
  ['another type', () => upload(tar([]), 'text/plain'), 415, 'unsupported_media_type', 'Content-Type'],
  [
    'a packed body',
    async () => ({
      ...upload(tar([])),
      headers: { 'content-type': 'application/zip', 'content-encoding': 'gzip' },
    }),
    415,
    'unsupported_media_type',
    'Content-Encoding',
  ],
  ['too many bytes', () => upload(Buffer.alloc(2_000_001)), 413, 'body_too_large', 'body'],
  [
    'a name in the query and in the body',
    () => ({ ...json('POST', '/v1/datasets?name=x', { name: 'x', folder: 'x' }) }),
    400,
    'unknown_parameter',
    'name',
  ],
  [
    'a folder without a name',
    () => json('POST', '/v1/datasets', { folder: 'x' }),
    400,
    'missing_required_parameter',
    'name',
  ],
  [
    'an unknown field',
    () => json('POST', '/v1/datasets', { name: 'x', folder: 'x', strict: true }),
    400,
    'unknown_parameter',
    'strict',
  ],
  ['a dataset that is not there', () => ({ path: '/v1/datasets/ds_0' }), 404, 'dataset_not_found', 'id'],
  ['items of none', () => ({ path: '/v1/datasets/ds_0/items' }), 404, 'dataset_not_found', 'id'],
  [
    'an item of none',
    () => ({ path: '/v1/datasets/ds_0/items/itm_0' }),
    404,
    'dataset_item_not_found',
    'item',
  ],
  [
    'a change of none',
    () => json('PATCH', '/v1/datasets/ds_0/items/itm_0', {}),
    404,
    'dataset_not_found',
    'id',
  ],
  [
    'a blank caption',
    () => json('PATCH', '/v1/datasets/ds_0/items/itm_0', { captions: [' '] }),
    400,
    'invalid_value',
    'captions.0',
  ],
  ['a cursor of another kind', () => ({ path: '/v1/datasets?cursor=abc' }), 400, 'invalid_value', 'cursor'],
  [
    'a resolution without buckets',
    () => ({ path: '/v1/datasets/ds_0?resolution=100' }),
    400,
    'invalid_value',
    'resolution',
  ],
  [
    'an archive where none is taken',
    () => ({ ...upload(tar([])), path: '/v1/generations' }),
    415,
    'unsupported_media_type',
    'Content-Type',
  ],
])('refused: %s', async (_, wrong, status, code, param) => {
  const answer = await send(address, await wrong())
  expect([answer.status, codeOf(answer)]).toMatchObject([status, { code, param }])
})

test('an upload without a length that is no archive is answered before it ends, and then hung up on', async () => {
  const { hostname, port } = new URL(address)
  const headers = { 'content-type': 'application/zip' }
  const answered = Promise.withResolvers<{ status: number; body: string }>()
  const outgoing = request(
    { hostname, port, method: 'POST', path: '/v1/datasets?name=x', headers },
    (incoming) => {
      void text(incoming).then((body) => answered.resolve({ status: incoming.statusCode ?? 0, body }))
    },
  )
  outgoing.on('error', () => undefined)
  outgoing.write(Buffer.alloc(4096, 'x'))
  expect(await answered.promise).toMatchObject({
    status: 400,
    body: expect.stringContaining('invalid_archive'),
  })
  outgoing.destroy()
  expect((await service.datasets.list()).data.filter(({ state }) => state === 'receiving')).toEqual([])
})

test('an upload that its client breaks off leaves nothing', async () => {
  const before = (await service.datasets.list({ limit: 100 })).data.length
  const { hostname, port } = new URL(address)
  const headers = { 'content-type': 'application/zip', 'content-length': '100000' }
  const outgoing = request({ hostname, port, method: 'POST', path: '/v1/datasets?name=broken', headers })
  outgoing.on('error', () => undefined)
  outgoing.write(zip(await someFiles()).subarray(0, 1000))
  const receiving = async () => (await service.datasets.list()).data.find(({ name }) => name === 'broken')
  await expect.poll(receiving).toMatchObject({ state: 'receiving' })
  outgoing.destroy()
  await expect.poll(receiving).toBeUndefined()
  expect((await service.datasets.list({ limit: 100 })).data).toHaveLength(before)
})
