/** The API as `atelier api` puts it together, and a bare route beside it, in a process of their own: `bench/api.ts` asks both. */
import { join } from 'node:path'
import Fastify from 'fastify'
import { pino } from 'pino'
import { keyless } from '../src/access/caller.ts'
import { defaultProject } from '../src/access/project.ts'
import { startAccessService } from '../src/access/service.ts'
import { openDirectory } from '../src/cluster/directory.ts'
import { openRemotePool } from '../src/cluster/tasks.ts'
import { startServices } from '../src/commands/services.ts'
import { readConfig } from '../src/config.ts'
import { GenerationLeases } from '../src/generation/leases.ts'
import { GenerationStore } from '../src/generation/store.ts'
import { buildApp } from '../src/http/app.ts'
import { openStorage, type Storage } from '../src/storage/storage.ts'
import type { Serving } from './api.ts'

const [databaseUrl, dataDir] = process.argv.slice(2)
if (databaseUrl === undefined || dataDir === undefined) throw new Error('usage: api-server.ts URL FOLDER')
const config = readConfig({
  ATELIER_DATABASE_URL: databaseUrl,
  ATELIER_DATA_DIR: dataDir,
  ATELIER_REQUESTS_PER_MINUTE: '10000000',
})
const log = pino({ level: config.logLevel }, pino.destination({ dest: join(dataDir, 'log'), sync: true }))
const storage = await openStorage({
  dataDir,
  databaseUrl,
  kind: 'api',
  onError: (error) => log.error({ err: error }, 'the database reports'),
})
const id = await makeGeneration(storage)

const directory = await openDirectory(storage, log)
const pool = Object.assign(
  Object.create(directory.pool) as typeof directory.pool,
  await openRemotePool(storage),
)
const access = await startAccessService({ database: storage.database, log })
const services = await startServices(
  { storage, pool, configured: [], config, log },
  async (opening) => opening,
)
const app = await buildApp({
  ...services,
  access,
  config,
  urlKey: storage.installation.keyFor('signed addresses'),
  logger: log,
})
const { text } = await access.keys.create({ project: defaultProject, name: 'bench', scopes: ['read'] })

const { prisma } = storage.database
const bare = Fastify()
bare.get<{ Params: { id: string } }>('/v1/generations/:id', async ({ params }, reply) => {
  const row = await prisma.generation.findUnique({
    where: { id: params.id, project: defaultProject },
    include: { images: true },
  })
  if (!row) return reply.code(404).send({ error: 'not found' })
  const images = row.images.map((image) => ({ ...image, seed: Number(image.seed) }))
  return { ...row, seed: Number(row.seed), images }
})

const addresses = await Promise.all([app, bare].map((one) => one.listen({ host: '127.0.0.1', port: 0 })))
const [ours = '', theirs = ''] = addresses.map((address) => `${address}/v1/generations/${id}`)
process.on('disconnect', () => process.exit())
process.on('message', () => {
  const { user, system } = process.cpuUsage()
  process.send!((user + system) / 1000)
})
process.send!({ ours, bare: theirs, authorization: `Bearer ${text}` } satisfies Serving)

/** One that has ended, with a picture. */
async function makeGeneration(storage: Storage): Promise<string> {
  const own = { width: 512, height: 512, seed: 1, seedIndex: 0 }
  await new GenerationStore(storage).create(
    {
      caller: keyless,
      parameters: {
        ...own,
        model: 'tiny',
        prompt: 'a lighthouse on a cliff at dawn',
        negativePrompt: '',
        count: 1,
        steps: 20,
        guidanceScale: 4.5,
        scheduler: 'dpm++_2m',
        cleanCaption: true,
        format: 'png',
        compression: 100,
      },
      requestId: 'req',
      user: undefined,
      priority: 'normal',
      deadline: undefined,
      previewSteps: [],
      expectedMs: 1,
      rowTokens: 1,
      idempotency: undefined,
    },
    () => undefined,
  )
  const leases = new GenerationLeases(storage)
  const [claimed] = await leases.claim({ expectedMs: 0, count: 0 }, { workMs: Infinity, images: 1 })
  if (!claimed) throw new Error('nothing to claim')
  const image = {
    ...own,
    index: 0,
    bucket: { width: 512, height: 512 },
    joules: null,
    energySource: null,
    promptTruncated: false,
    modelVersion: 'tiny-1',
    timings: { waitMs: 1, encodeMs: 1, denoiseMs: 1, decodeMs: 1, computeMs: 1 },
    receipt: {
      device: 'cpu',
      deviceMs: 1,
      rowSteps: 40,
      meanBatchRows: 2,
      maxBatchRows: 2,
      promptCached: false,
    },
    format: 'png',
    blobKey: 'none',
    sizeBytes: 1,
    sha256: '0'.repeat(64),
  } as const
  await leases.succeed(claimed, [image], { startedAt: new Date(), events: [] })
  return claimed.id
}
