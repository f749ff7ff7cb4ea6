/** A worker process with the painting pool: takes from the queue of a shared database until it is killed. */
import { pino } from 'pino'
import { startGenerationService } from '../../src/generation/service.ts'
import { openStorage } from '../../src/storage/storage.ts'
import { paintPool } from '../generation/paint-pool.ts'

const [dataDir, databaseUrl, stepMs] = process.argv.slice(2)
if (dataDir === undefined || databaseUrl === undefined)
  throw new Error('usage: worker-child.ts FOLDER URL STEP_MS')
const log = pino({ level: process.env['ATELIER_TEST_LOG'] ?? 'silent' }, pino.destination(2))
const storage = await openStorage({
  dataDir,
  databaseUrl,
  kind: 'worker',
  onError: (error) => log.warn({ err: error }, 'the database reports'),
})
await startGenerationService({
  storage,
  pool: paintPool({ stepMs: Number(stepMs) }),
  log,
  maxWaitMs: 1e9,
  window: { images: 8 },
})
console.log(storage.presence.id)
