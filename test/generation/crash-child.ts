/** Serves a data folder with the painting pool and accepts generations without end, printing the id of each accepted one. */
import { pino } from 'pino'
import { startGenerationService } from '../../src/generation/service.ts'
import { owned } from '../access/owned.ts'
import { openStorage } from '../../src/storage/storage.ts'
import { paintModel, paintPool } from './paint-pool.ts'
import { someParameters } from './parameters.ts'

const [dataDir, round] = process.argv.slice(2)
if (dataDir === undefined || round === undefined) throw new Error('usage: crash-child.ts FOLDER ROUND')
const log = pino({ level: 'warn' }, pino.destination(2))
const storage = await openStorage({ dataDir, onError: (error) => log.error(error) })
const service = owned(
  await startGenerationService({
    storage,
    pool: paintPool({ stepMs: 1 }),
    log,
    maxWaitMs: 1e9,
    window: { workMs: Infinity, images: 8 },
  }),
)
console.log('open')
for (let i = 0; ; i++) {
  const parameters = someParameters({
    model: paintModel.name,
    seed: Number(round) * 1000 + i,
    count: 1 + (i % 3),
    steps: 1 + (i % 20),
  })
  const { generation } = await service.create(parameters, {
    requestId: `round-${round}`,
    idempotencyKey: `${round}-${i}`,
  })
  console.log(generation.id)
  if ((await service.count()).queued > 8) await service.settled(generation.id)
}
