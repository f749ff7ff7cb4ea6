/** What of a request goes into the log: its id, its route, how it ended, and nothing that its user wrote. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { createLog } from '../../src/commands/log.ts'
import { openContentPolicy } from '../../src/policy/service.ts'
import { temporaryFolder } from '../storage/folders.ts'
import { buildTestApp, startTestService, testConfig, type TestService } from './server.ts'

const secret = 'my grandmother'
let service: TestService
let app: FastifyInstance
let fails = false
let lines: string[] = []
const log = createLog({ logLevel: 'trace' }, { write: (line) => void lines.push(line) })

beforeAll(async () => {
  const file = join(temporaryFolder(), 'list.txt')
  await writeFile(file, 'bomb\n')
  const policy = await openContentPolicy({
    blockListFile: file,
    moderation: { url: 'http://127.0.0.1:1/', key: '', model: 'm', timeoutMs: 500, ofPictures: false },
    onFailure: 'allow',
    log,
  })
  const before = () => {
    if (fails) throw new Error('out of memory')
  }
  service = await startTestService({ policy, log, before })
})
afterEach(async () => {
  await app.close()
  lines = []
  fails = false
})
afterAll(() => service.close())

const post = (url: string, payload: object, headers: Record<string, string> = {}) =>
  app.inject({ method: 'POST', url, payload, headers })

test('prompts stay out of the log, whatever becomes of a request', async () => {
  app = await buildTestApp(service.generation, { logger: log })
  const texts = { prompt: `a hat for ${secret}`, negative_prompt: `${secret}'s dog` }
  const statuses: number[] = []
  for (const url of ['/v1/images/generations', '/v1/generations']) {
    const headers = {
      prefer: 'wait=30',
      'x-request-id': 'request-of-mine',
      'idempotency-key': `${secret} ${url}`,
    }
    for (const payload of [
      { ...texts, user: secret },
      { ...texts, seed: secret },
      { ...texts, [secret]: 1 },
      { ...texts, prompt: [secret] },
      { prompt: `${secret}\u0000` },
      { prompt: `a bomb for ${secret}` },
      { ...texts, model: secret },
    ])
      statuses.push((await post(url, payload, headers)).statusCode)
    fails = true
    statuses.push((await post(url, texts, { prefer: 'wait=30' })).statusCode)
    fails = false
    await app.inject({ url: `${url}?prompt=${encodeURIComponent(secret)}` })
    await app.inject({
      method: 'POST',
      url,
      payload: `{"prompt": "${secret}`,
      headers: { 'content-type': 'application/json' },
    })
  }
  expect(new Set(statuses)).toEqual(new Set([200, 400, 404, 500]))
  expect(lines.length).toBeGreaterThan(20)
  expect(lines.filter((line) => line.includes(secret) || line.includes('grandmother'))).toEqual([])
  const told = lines.map((line) => JSON.parse(line) as { requestId?: string; msg: string })
  expect(told.filter(({ requestId }) => requestId === 'request-of-mine').map(({ msg }) => msg)).toContain(
    'answered',
  )
})

test('prompts are logged where that is asked for', async () => {
  const config = testConfig({ ATELIER_LOG_PROMPTS: 'true' })
  app = await buildTestApp(service.generation, { logger: log, config })
  await post('/v1/images/generations', { prompt: `a hat for ${secret}`, negative_prompt: 'a dog' })
  const accepted = lines
    .map((line) => JSON.parse(line) as { msg: string })
    .find(({ msg }) => msg === 'generation accepted')
  expect(accepted).toMatchObject({ prompt: `a hat for ${secret}`, negativePrompt: 'a dog' })
})
