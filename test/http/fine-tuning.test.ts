/** `/v1/fine_tuning`, `/v1/deployments` and what they change of models, over the real services; every answer is held to the contract. */
import type { FastifyInstance } from 'fastify'
import OpenAI from 'openai'
import supertest from 'supertest'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { startGenerationService, type GenerationService } from '../../src/generation/service.ts'
import { owned, type With } from '../access/owned.ts'
import { log, useFineTuning } from '../fine-tuning/fixture.ts'
import { practicePool, trainingFailed, type PracticePool } from '../fine-tuning/practice-pool.ts'
import { buildTestApp, listen } from './server.ts'

const fixture = useFineTuning()
let pool: PracticePool
let generation: With<GenerationService>
let app: FastifyInstance
let address: string

beforeAll(async () => {
  pool = practicePool()
  const { storage } = fixture
  const fineTuning = await fixture.start(pool)
  generation = owned(await startGenerationService({ storage, pool, log, maxWaitMs: 1e9 }))
  app = await buildTestApp(generation, { fineTuning, logger: log })
  address = await listen(app)
})
afterAll(async () => {
  await app.close()
  await generation.close()
})
beforeEach(() => {
  pool.beforeStep = () => undefined
})

const api = () => supertest(app.server)
const jobs = '/v1/fine_tuning/jobs'
const small = { kind: 'align', resolution: 16, steps: 3, batch_size: 2 }
const body = (changes: object = {}) => ({
  model: 'tiny-512',
  dataset: fixture.datasetId,
  stages: [small],
  seed: 7,
  ...changes,
})
const create = (changes: object = {}, headers: Record<string, string> = {}) =>
  api().post(jobs).set(headers).send(body(changes))
const get = async (path: string) => (await api().get(path).expect(200)).body
async function finished(changes: object = {}): Promise<string> {
  const { id } = (await create(changes).expect(202)).body
  await fixture.until(id, 'succeeded')
  return id
}

describe('a job', () => {
  test('is accepted, says where it is, and tells what came of it', async () => {
    const accepted = await create({ suffix: 'house' }).expect(202)
    const { id } = accepted.body
    expect(accepted.headers['location']).toMatch(new RegExp(`/v1/fine_tuning/jobs/${id}$`))
    expect(accepted.body).toMatchObject({ object: 'fine_tuning.job', fine_tuned_model: null, error: null })
    await fixture.until(id, 'succeeded')
    expect(await get(`${jobs}/${id}`)).toMatchObject({
      status: 'succeeded',
      model: 'tiny-512',
      dataset: fixture.datasetId,
      pictures: { used: 12, left_out: 0 },
      suffix: 'house',
      method: { type: 'full' },
      start: { from: 'model' },
      seed: 7,
      stages: [{ ...small, learning_rate: 2e-5, train: { condition: 'text', recompute: 'none' } }],
      progress: { step: 3, steps: 3 },
      reports: [{ stage: 0, kind: 'align', held_out: { loss_before: 2, loss_after: 1 } }],
      attempt: 1,
    })
  })

  test('that fails says why', async () => {
    pool.beforeStep = () => {
      throw trainingFailed('the loss is no number after step 1')
    }
    const { id } = (await create().expect(202)).body
    await fixture.until(id, 'failed')
    expect((await get(`${jobs}/${id}`)).error).toEqual({
      code: 'training_failed',
      message: 'the loss is no number after step 1',
    })
  })

  test('is paused, resumed and cancelled', async () => {
    const { promise, resolve } = Promise.withResolvers<void>()
    pool.beforeStep = () => promise
    const { id } = (await create().expect(202)).body
    await fixture.until(id, 'running')
    const command = (name: string) => api().post(`${jobs}/${id}/${name}`)
    expect((await command('pause').expect(200)).body).toMatchObject({ id })
    await fixture.until(id, 'paused')
    expect((await command('resume').expect(200)).body.status).toMatch(/queued|running/)
    expect((await command('cancel').expect(200)).body).toMatchObject({ status: 'cancelled' })
    resolve()
    const refused = await command('pause').expect(409)
    expect(refused.body.error).toMatchObject({ code: 'fine_tuning_job_state' })
    await command('cancel').expect(200)
    await api().post(`${jobs}/${id}/resume`).send({ why: 'not' }).expect(400)
  })

  test('is created once for an Idempotency-Key', async () => {
    const headers = { 'Idempotency-Key': 'job-1' }
    const first = await create({}, headers).expect(202)
    const again = await create({}, headers).expect(202)
    expect(again.body.id).toBe(first.body.id)
    expect(again.headers['idempotency-replayed']).toBe('true')
    await create({ seed: 8 }, headers).expect(422)
    await fixture.until(first.body.id, 'succeeded')
  })

  test('is deleted when it has ended, and then is not there', async () => {
    const id = await finished()
    await api().delete(`${jobs}/${id}`).expect(204)
    const { error } = (await api().get(`${jobs}/${id}`).expect(404)).body
    expect(error).toMatchObject({ code: 'fine_tuning_job_not_found', param: 'id' })
    await api().delete(`${jobs}/${id}`).expect(404)
  })
})

describe('a dry run', () => {
  test('answers with every number and what it takes, and creates nothing', async () => {
    const before = (await get(jobs)).data.length
    const { body: plan } = await create({ dry_run: true, method: { type: 'lora', rank: 4 } }).expect(200)
    expect(plan).toMatchObject({
      object: 'fine_tuning.plan',
      method: { type: 'lora', rank: 4, alpha: 4, targets: ['to_q', 'to_k', 'to_v', 'to_out.0'] },
      estimate: {
        steps: 3,
        pictures: 12,
        // Two blocks of two attentions of four projections, (32 + 32) · 4 each.
        trained_parameters: 2 * 2 * 4 * 64 * 4,
        stages: [{ crossing_bytes: 0 }],
      },
    })
    expect(plan.estimate.expected_seconds).toBeGreaterThan(0)
    expect((await get(jobs)).data.length).toBe(before)
  })

  test('says where a job begins in the words that it was asked in', async () => {
    const start = { from: 'dit', source: 'one' }
    const { body: plan } = await create({ dry_run: true, start }).expect(200)
    expect(plan.start).toEqual(start)
    await create({ dry_run: true, start: { from: 'dit', source: 'none' } }).expect(400)
  })

  test('is refused for what the dataset lacks, as the job is, by the name of the field', async () => {
    const stages = [{ ...small, filter: { min_aesthetic_score: 9 } }]
    for (const dry_run of [true, false]) {
      const { error } = (await create({ dry_run, stages }).expect(400)).body
      expect(error).toMatchObject({ code: 'invalid_value', param: 'stages.0.filter.min_aesthetic_score' })
      expect(error.message).toContain('no picture of 12 has an aesthetic score of 9 or more')
    }
  })

  test('is measured by the jobs before it', async () => {
    await finished()
    const { body: plan } = await create({ dry_run: true }).expect(200)
    // 100 ms for each step of two pictures.
    expect(plan.estimate.stages[0]).toMatchObject({ basis: 'measured', micro_batch: 2, micro_step_ms: 100 })
  })

  test('is a body for the same job', async () => {
    const { body: plan } = await create({ dry_run: true }).expect(200)
    const { object: _, model_version: __, estimate: ___, ...same } = plan
    const again = await api()
      .post(jobs)
      .send({ ...same, dataset: fixture.datasetId, samples: null, dry_run: true })
      .expect(200)
    expect(again.body.stages).toEqual(plan.stages)
    expect(again.body.seed).toBe(plan.seed)
  })
})

test.each([
  [{ model: 'sdxl' }, 404, 'model_not_found', 'model'],
  [{ dataset: 'ds_none' }, 404, 'dataset_not_found', 'dataset'],
  [{ stages: [] }, 400, 'invalid_value', 'stages'],
  [{ stages: [{ kind: 'polish' }] }, 400, 'invalid_value', 'stages.0.kind'],
  [{ stages: [{ kind: 'align', setps: 3 }] }, 400, 'unknown_parameter', 'stages.0.setps'],
  [{ stages: [{ kind: 'align', resolution: 100 }] }, 400, 'invalid_value', 'stages.0.resolution'],
  [
    { stages: [{ kind: 'pixel', train: { condition: 'class' } }] },
    400,
    'invalid_value',
    'stages.0.train.condition',
  ],
  [{ method: { type: 'full', rank: 3 } }, 400, 'invalid_value', 'method.rank'],
  [{ method: { type: 'lora', targets: ['nothing'] } }, 400, 'invalid_value', 'method.targets'],
  [{ start: { from: 'dit' } }, 400, 'missing_required_parameter', 'start.source'],
  [{ start: { from: 'dit', source: '../x' } }, 400, 'invalid_value', 'start.source'],
])('a body with %j is refused by name', async (changes, status, code, param) => {
  const { body: answer } = await create(changes).expect(status)
  expect(answer.error).toMatchObject({ code, param })
})

describe('on its way a job leaves', () => {
  let id: string
  beforeAll(async () => {
    const samples = { prompts: [{ prompt: 'a kite', seed: 3 }, { prompt: 'a boat' }], every: 2 }
    id = await finished({ samples, stages: [{ ...small, steps: 4 }, small], checkpoint_every: 2 })
  })

  test('metrics, as JSON and as CSV', async () => {
    const page = await get(`${jobs}/${id}/metrics?after=4&limit=2`)
    expect(page).toMatchObject({ object: 'list', has_more: true })
    expect(page.data.map((each: { step: number }) => each.step)).toEqual([5, 6])
    const csv = await api().get(`${jobs}/${id}/metrics?every=3`).set('Accept', 'text/csv').expect(200)
    expect(csv.headers['content-type']).toMatch(/^text\/csv/)
    expect(csv.text.split('\r\n')).toEqual([
      'step,stage,stage_step,loss,gradient_norm,learning_rate,images_per_second,device_ms',
      '3,0,3,0.33333334,2,0.0001,20,100',
      '6,1,2,0.16666667,2,0.0001,20,100',
      '',
    ])
  })

  test('samples and their pictures', async () => {
    const { data } = await get(`${jobs}/${id}/samples`)
    expect(data.map(({ step, index, seed }: Record<string, number>) => [step, index, seed])).toEqual([
      [2, 0, 3],
      [2, 1, 0],
      [4, 0, 3],
      [4, 1, 0],
      [6, 0, 3],
      [6, 1, 0],
      [7, 0, 3],
      [7, 1, 0],
    ])
    const picture = await api().get(new URL(data[0].url).pathname).buffer(true).expect(200)
    expect(picture.headers['content-type']).toBe('image/webp')
    expect(picture.body.subarray(8, 12).toString()).toBe('WEBP')
    await api().get(`${jobs}/${id}/samples/none/content`).expect(404)
    const rest = await get(`${jobs}/${id}/samples?after=${data[5].id}`)
    expect(rest.data).toHaveLength(2)
  })

  test('checkpoints', async () => {
    const list = await get(`${jobs}/${id}/checkpoints`)
    const ids = list.data.map((each: { id: string }) => each.id)
    expect(list).toMatchObject({ first_id: ids[0], last_id: ids.at(-1), has_more: false })
    expect(list.data.map((each: { step_number: number }) => each.step_number)).toEqual([7, 6, 4, 2])
    expect(list.data[0]).toMatchObject({
      object: 'fine_tuning.job.checkpoint',
      fine_tuning_job_id: id,
      metrics: { step: 7 },
      fine_tuned_model_checkpoint: null,
    })
  })

  test('events, newest first in pages, and all of them as they came in a stream', async () => {
    const first = await get(`${jobs}/${id}/events?limit=2`)
    expect(first).toMatchObject({ has_more: true, data: [{ event: 'succeeded', type: 'message' }, {}] })
    const second = await get(`${jobs}/${id}/events?limit=2&after=${first.data[1].id}`)
    expect(second.data[0].id).not.toBe(first.data[1].id)
    const stream = await api().get(`${jobs}/${id}/events`).set('Accept', 'text/event-stream').expect(200)
    const data = [...stream.text.matchAll(/^data: (.*)$/gm)].map(([, json]) => JSON.parse(json!))
    expect(data[0]).toMatchObject({ event: 'created', object: 'fine_tuning.job.event' })
    expect(data.at(-1)).toEqual(first.data[0])
    expect(data.filter(({ type }) => type === 'metrics').length).toBeGreaterThan(1)
    await api()
      .get(`${jobs}/${id}/events`)
      .set({ Accept: 'text/event-stream', 'Last-Event-ID': String(data.length) })
      .expect(204)
    await api().get(`${jobs}/${id}/events?after=none`).expect(400)
    await api().get('/v1/deployments?name=%00').expect(400)
  })
})

test('a checkpoint is deployed, listed, rolled back and withdrawn, and models say where they come from', async () => {
  const id = await finished()
  const deploy = (name?: string) =>
    api()
      .post(`${jobs}/${id}/checkpoints/latest/deploy`)
      .send(name === undefined ? {} : { name })
  const { body: deployment } = await deploy('tiny-512').expect(200)
  expect(deployment).toMatchObject({
    object: 'deployment',
    state: 'live',
    name: 'tiny-512',
    job: id,
    step: 3,
  })
  expect((await get('/v1/models/tiny-512')).origin).toEqual(deployment)
  expect((await get(`${jobs}/${id}`)).fine_tuned_model).toBe('tiny-512')
  expect((await get(`${jobs}/${id}/checkpoints`)).data[0].fine_tuned_model_checkpoint).toBe('tiny-512')
  expect((await get(`/v1/deployments?job=${id}`)).data).toEqual([deployment])
  await api().delete(`/v1/deployments/${deployment.id}`).expect(409)
  await api().delete(`${jobs}/${id}`).expect(409)

  const rollback = () => api().post('/v1/models/tiny-512/rollback').set('Idempotency-Key', 'back-1')
  for (const isAgain of [undefined, 'true']) {
    const { body, headers } = await rollback().expect(200)
    expect(body).toMatchObject({ id: 'tiny-512', origin: null })
    expect(headers['idempotency-replayed']).toBe(isAgain)
  }
  const { body: refusal } = await api().post('/v1/models/tiny-512/rollback').expect(409)
  expect(refusal.error.code).toBe('nothing_to_roll_back')

  const { body: beside } = await deploy().expect(200)
  const named = encodeURIComponent(beside.name)
  expect((await get(`/v1/models/${named}`)).origin.base_model).toBe('tiny-512')
  expect((await api().post(`/v1/models/${named}/withdraw`).expect(200)).body.state).toBe('withdrawn')
  await api().get(`/v1/models/${named}`).expect(404)
  await deploy('gpt-image-1').expect(400)
  expect((await deploy('house/tiny_v1.0-b').expect(200)).body.name).toBe('house/tiny_v1.0-b')
  const { body: withdrawn } = await api().post('/v1/models/house%2Ftiny_v1.0-b/withdraw').expect(200)
  await api().delete(`/v1/deployments/${withdrawn.id}`).expect(204)
  for (const each of [deployment, beside]) await api().delete(`/v1/deployments/${each.id}`).expect(204)
  await api().get(`/v1/deployments/${deployment.id}`).expect(404)
})

const noNames = [
  '.',
  '..',
  '../tiny',
  'house/..',
  'house//style',
  '/house',
  'house/',
  '-house',
  'a b',
  'é',
  'a\n',
  '',
]

test.each(noNames)('%j is no name for a model, and no suffix of one', async (name) => {
  const id = 'ftjob_none' // A wrong request ends before anything is looked up.
  const deploying = await api().post(`${jobs}/${id}/checkpoints/latest/deploy`).send({ name }).expect(400)
  expect(deploying.body.error).toMatchObject({ code: 'invalid_value', param: 'name' })
  expect(deploying.body.error.message).toBe(
    `name: expected 1 to 128 characters, parts of letters, digits, ".", "_" and "-" with "/" between, none beginning with "." or "-", got ${JSON.stringify(name)}`,
  )
  const creating = await create({ suffix: name }).expect(400)
  expect(creating.body.error).toMatchObject({ code: 'invalid_value', param: 'suffix' })
  expect(creating.body.error.message).toBe(
    `suffix: expected 1 to 64 letters, digits, ".", "_" and "-", not beginning with "." or "-", got ${JSON.stringify(name)}`,
  )
})

test("a LoRA's weights can be had as a file, made once", async () => {
  const id = await finished({ method: { type: 'lora', rank: 2 } })
  const [checkpoint] = (await get(`${jobs}/${id}/checkpoints`)).data
  const path = `${jobs}/${id}/checkpoints/${checkpoint.id}/adapter`
  const answers = await Promise.all([1, 2].map(() => api().get(path).buffer(true).expect(200)))
  pool.refuse = trainingFailed('it was made again')
  answers.push(await api().get(path).buffer(true).expect(200))
  pool.refuse = undefined
  for (const { body: bytes, headers } of answers) {
    expect(bytes.toString()).toBe('checkpoints/00-000003')
    expect(headers['content-disposition']).toBe(`attachment; filename="${checkpoint.id}.safetensors"`)
  }
})

test("OpenAI's own client lists jobs, events and checkpoints, cancels, pauses and resumes", async () => {
  const openai = new OpenAI({ baseURL: `${address}/v1`, apiKey: 'none' })
  const id = await finished()
  const { fineTuning } = openai
  expect((await fineTuning.jobs.retrieve(id)).status).toBe('succeeded')
  const listed = []
  for await (const job of fineTuning.jobs.list({ limit: 1 })) listed.push(job.id)
  expect(listed.length).toBeGreaterThan(1)
  expect(listed[0]).toBe(id)
  const messages = []
  for await (const event of fineTuning.jobs.listEvents(id, { limit: 3 })) messages.push(event.message)
  expect(messages.at(-1)).toBe('Job created')
  for await (const checkpoint of fineTuning.jobs.checkpoints.list(id)) expect(checkpoint.step_number).toBe(3)
  expect((await fineTuning.jobs.cancel(id)).status).toBe('succeeded')
})

test('Prometheus is told of jobs and of training', async () => {
  await finished()
  const { text } = await api().get('/metrics').expect(200)
  expect(text).toMatch(/^atelier_fine_tuning_jobs\{state="succeeded"\} [1-9]/m)
  expect(text).toMatch(/^atelier_training_steps_total [1-9]/m)
  expect(text).toMatch(/^atelier_device_training_seconds_total\{device="[^"]+"\} [\d.]+$/m)
  expect(text).toMatch(/^atelier_training_images_per_second 0$/m)
})
