/** The client's datasets against a listening server. */
import type { FastifyInstance } from 'fastify'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createAtelier, type Archive, type Atelier } from '../../src/sdk/index.ts'
import { pieces } from '../datasets/fixture.ts'
import { tar } from '../datasets/archives.ts'
import { picture } from '../datasets/pictures.ts'
import { buildTestApp, listen, startTestService, type TestService } from '../http/server.ts'

let service: TestService
let app: FastifyInstance
let atelier: Atelier

beforeAll(async () => {
  service = await startTestService()
  app = await buildTestApp(service.generation, { datasets: service.datasets })
  atelier = createAtelier({ baseUrl: await listen(app), maxRetries: 0 })
})

afterAll(async () => {
  await app.close()
  await service.close()
})

async function archive(): Promise<Uint8Array<ArrayBuffer>> {
  const files = await Promise.all(
    [1, 2, 3].map(async (shade) => ({ name: `${shade}.png`, data: await picture(shade) })),
  )
  return new Uint8Array(tar([...files, { name: '1.txt', data: 'one' }, { name: 'x.txt', data: 'none' }]))
}

test.each<[string, (bytes: Uint8Array<ArrayBuffer>) => Archive]>([
  ['bytes', (bytes) => bytes],
  ['a blob', (bytes) => new Blob([bytes])],
  ['a stream', (bytes) => ReadableStream.from(pieces(Buffer.from(bytes)))],
])('an archive is uploaded as %s, waited for and looked at', async (_, as) => {
  const { id } = await atelier.datasets.upload(as(await archive()), { name: 'three' })
  const dataset = await atelier.datasets.wait(id)
  expect(dataset).toMatchObject({
    name: 'three',
    state: 'ready',
    counts: { items: 3, captioned: 1, problems: 1 },
  })
  const items = await Array.fromAsync(atelier.datasets.items(id, { limit: 2 }))
  expect(items.map(({ path, captions }) => [path, captions])).toEqual([
    ['1.png', ['one']],
    ['2.png', []],
    ['3.png', []],
  ])
  const changed = await atelier.datasets.updateItem(id, items[1]?.id ?? '', {
    captions: ['two'],
    label: 'even',
  })
  expect(changed).toMatchObject({ captions: ['two'], label: 'even' })
  expect(await atelier.datasets.retrieve(id, { resolution: 256 })).toMatchObject({
    captioned_share: 2 / 3,
    labels: [{ label: 'even', items: 1 }],
    buckets: [{ width: 304, height: 208, items: 3 }],
  })
  expect((await Array.fromAsync(atelier.datasets.problems(id))).map(({ code }) => code)).toEqual([
    'unmatched_text',
  ])
  await atelier.datasets.delete(id)
  expect(await Array.fromAsync(atelier.datasets.list())).toEqual([])
})

test('refusals are typed, also of a stream that is answered before its end', async () => {
  const endless = ReadableStream.from(
    (async function* () {
      for (let count = 0; count < 100; count++) yield Buffer.alloc(65_536, 'x')
    })(),
  )
  for (const wrong of [new Uint8Array(10), endless])
    await expect(atelier.datasets.upload(wrong, { name: 'x' })).rejects.toMatchObject({
      code: expect.stringMatching(/^(invalid_archive|connection_failed)$/),
    })
  await expect(atelier.datasets.create({ name: 'x', folder: '/' })).rejects.toMatchObject({
    status: 400,
    code: 'invalid_value',
    param: 'folder',
  })
})
