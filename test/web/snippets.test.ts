/** Property: what the playground gives to copy makes the same picture again when it is run as it stands. */
import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { FastifyInstance } from 'fastify'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createAtelier } from '../../src/sdk/index.ts'
import { snippet } from '../../src/web/playground/snippets.ts'
import { buildTestApp, listen, startTestService, type TestService } from '../http/server.ts'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../..', import.meta.url))

let service: TestService
let app: FastifyInstance
let serviceUrl: string
/** Inside the clone, where `openai` is known. */
let folder: string

beforeAll(async () => {
  service = await startTestService()
  app = await buildTestApp(service.generation)
  serviceUrl = await listen(app)
  folder = await mkdtemp(join(root, '.snippets-'))
})

afterAll(async () => {
  await rm(folder, { recursive: true })
  await app.close()
  await service.close()
})

const difficult = `a "quoted" 'kite' \\ with $HOME, \`ticks\` and\ntwo lines`

test.each([
  ['curl', 'plain words'],
  ['curl', difficult],
  ['openai', difficult],
  ['sdk', difficult],
] as const)('%s: %j', async (language, prompt) => {
  const atelier = createAtelier({ baseUrl: serviceUrl })
  const request = { prompt, n: 3, seed: 7, steps: 4, size: '64x64', negative_prompt: "it's rain" }
  const { parameters, images } = await atelier.generations.create(request, { waitSeconds: 60 })
  const text = snippet(language, { ...parameters, n: 1, seed_index: 2 }, { serviceUrl, needsKey: false })
  if (language === 'curl') await run('sh', ['-c', text.replace(/^curl /, 'curl --fail --silent ')])
  else {
    const file = join(folder, `${language}.ts`)
    // The sources of the client: what is built of them is package.test.ts's concern.
    await writeFile(file, text.replace("'atelier/sdk'", `'${join(root, 'src/sdk/index.ts')}'`))
    await run(process.execPath, [file], { cwd: root })
  }
  const [again] = (await atelier.generations.page({ limit: 1 })).data
  expect(again?.parameters).toEqual({ ...parameters, n: 1, seed_index: 2 })
  const [first, second] = await Promise.all(
    [images[2], again?.images[0]].map((image) => atelier.images.retrieve(image!.id)),
  )
  expect(second?.sha256).toBe(first?.sha256)
})

test('a key is named, never told', () => {
  const parameters = {
    model: 'emoji',
    prompt: 'a kite',
    negative_prompt: '',
    size: '64x64',
    n: 1,
    seed: 1,
    seed_index: 0,
    steps: 20,
    guidance_scale: 4.5,
    scheduler: 'euler',
    clean_caption: false,
    output_format: 'png',
    output_compression: 100,
  } as const
  const options = { serviceUrl, needsKey: true }
  expect(snippet('curl', parameters, options)).toContain('"authorization: Bearer $ATELIER_KEY"')
  for (const language of ['openai', 'sdk'] as const)
    expect(snippet(language, parameters, options)).toContain('apiKey: process.env.ATELIER_KEY')
})
