/** Property: an upload of any size takes no memory to speak of, and the service answers others meanwhile. */
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { FastifyInstance } from 'fastify'
import type { SchemaDataset } from '../../src/sdk/schema.ts'
import { buildTestApp, listen, startTestService, type TestService } from '../http/server.ts'
import { startChild } from '../storage/folders.ts'

const mebi = 2 ** 20

let service: TestService
let app: FastifyInstance
let address: string

beforeAll(async () => {
  service = await startTestService()
  app = await buildTestApp(service.generation, { datasets: service.datasets })
  address = await listen(app)
})

afterAll(async () => {
  await app.close()
  await service.close()
})

/** In a process of its own: what the sender holds is not the service's. */
async function upload(mebibytes: number): Promise<SchemaDataset> {
  const child = startChild(fileURLToPath(new URL('upload-child.ts', import.meta.url)), [
    address,
    String(mebibytes),
  ])
  const { value } = (await child.lines.next()) as { value: string }
  return JSON.parse(value) as SchemaDataset
}

test('400 MiB raise the resident memory by less than 128 MiB, and liveness is answered within a second throughout', async () => {
  await fetch(`${address}/livez`)
  const before = process.memoryUsage.rss()
  let peak = before
  let slowestMs = 0
  const over = new AbortController()
  const watching = (async () => {
    while (!over.signal.aborted) {
      const startedAt = performance.now()
      await (await fetch(`${address}/livez`)).text()
      slowestMs = Math.max(slowestMs, performance.now() - startedAt)
      peak = Math.max(peak, process.memoryUsage.rss())
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  })()
  const { id } = await upload(400)
  const dataset = await service.datasets.settled(id)
  over.abort()
  await watching
  const raisedMib = (peak - before) / mebi
  console.log(
    `resident memory rose by ${raisedMib.toFixed(1)} MiB; slowest answer ${slowestMs.toFixed(0)} ms`,
  )
  expect(dataset).toMatchObject({ state: 'ready', counts: { items: 1, leftOut: 100 } })
  // Node lets up to 64 MiB of buffers that nobody holds any more lie before it collects them.
  expect(raisedMib).toBeLessThan(128)
  expect(slowestMs).toBeLessThan(1000)
})
