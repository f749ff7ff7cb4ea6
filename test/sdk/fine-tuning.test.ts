/** The client's jobs and deployments against a listening server. */
import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startGenerationService, type GenerationService } from '../../src/generation/service.ts'
import { owned, type With } from '../access/owned.ts'
import { createAtelier, type Atelier } from '../../src/sdk/index.ts'
import { log, useFineTuning } from '../fine-tuning/fixture.ts'
import { practicePool, type PracticePool } from '../fine-tuning/practice-pool.ts'
import { buildTestApp, listen } from '../http/server.ts'

const fixture = useFineTuning()
let pool: PracticePool
let generation: With<GenerationService>
let app: FastifyInstance
let atelier: Atelier

beforeAll(async () => {
  pool = practicePool()
  const fineTuning = await fixture.start(pool)
  generation = owned(await startGenerationService({ storage: fixture.storage, pool, log, maxWaitMs: 1e9 }))
  app = await buildTestApp(generation, { fineTuning })
  atelier = createAtelier({ baseUrl: await listen(app), maxRetries: 1, maxDelayMs: 100 })
})
afterAll(async () => {
  await app.close()
  await generation.close()
})

const request = () => ({
  model: 'tiny-512',
  dataset: fixture.datasetId,
  stages: [{ kind: 'align' as const, resolution: 16, steps: 5, batch_size: 2 }],
  samples: { prompts: [{ prompt: 'a kite' }] },
})

test('a job is planned, created, followed to its end, deployed, rolled back and deleted', async () => {
  const { jobs, checkpoints } = atelier.fineTuning
  expect((await jobs.plan(request())).estimate.steps).toBe(5)
  const options = { idempotencyKey: randomUUID() }
  const { id } = await jobs.create(request(), options)
  expect((await jobs.create(request(), options)).id).toBe(id)
  const events = (await Array.fromAsync(jobs.events(id))).map(({ event }) => event)
  expect([events[0], events.at(-1)]).toEqual(['created', 'succeeded'])
  expect((await jobs.waitFor(id)).status).toBe('succeeded')
  const metrics = await Array.fromAsync(jobs.metrics(id, { limit: 2 }))
  expect(metrics.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5])
  const [sample] = await Array.fromAsync(jobs.samples(id))
  const webp = await jobs.sampleContent(id, sample!.id)
  expect(Buffer.from(webp.subarray(8, 12)).toString()).toBe('WEBP')

  const [newest] = await Array.fromAsync(checkpoints.list(id))
  await expect(checkpoints.adapter(id, newest!.id)).rejects.toMatchObject({ code: 'export_failed' })
  const deployment = await checkpoints.deploy(id, newest!.id, { name: 'tiny-512' })
  expect((await atelier.models.retrieve('tiny-512')).origin).toEqual(deployment)
  expect(await Array.fromAsync(atelier.deployments.list({ name: 'tiny-512' }))).toEqual([deployment])
  await expect(jobs.delete(id)).rejects.toMatchObject({ code: 'in_use' })
  expect((await atelier.models.rollback('tiny-512')).origin).toBeNull()
  const beside = await checkpoints.deploy(id, newest!.id)
  expect((await atelier.models.withdraw(beside.name)).state).toBe('withdrawn')
  await atelier.deployments.delete(beside.id)
  await jobs.delete(id)
  await expect(jobs.retrieve(id)).rejects.toMatchObject({ code: 'fine_tuning_job_not_found', status: 404 })
})

test('waiting for a job ends when it is paused, and again when it ends', async () => {
  const { jobs } = atelier.fineTuning
  const { promise, resolve } = Promise.withResolvers<void>()
  pool.beforeStep = () => promise
  const { id } = await jobs.create(request())
  const waited = jobs.waitFor(id)
  await jobs.pause(id)
  expect((await waited).status).toBe('paused')
  pool.beforeStep = () => undefined
  resolve()
  await jobs.resume(id)
  expect((await jobs.waitFor(id)).status).toBe('succeeded')
  const listed = await Array.fromAsync(jobs.list({ limit: 1 }))
  expect(listed.map((job) => job.id)).toContain(id)
  const { status } = await jobs.cancel(id)
  expect(status).toBe('succeeded')
})
