import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startService } from '../../bench/service.ts'
import { writeSyntheticCheckpoint } from '../../src/models/synthetic-checkpoint.ts'
import { createAtelier } from '../../src/sdk/index.ts'
import { smallCheckpoint } from './small-checkpoint.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'bench-service-'))
  await writeSyntheticCheckpoint(join(folder, 'small'), smallCheckpoint)
  await mkdir(join(folder, 'data'))
})
afterAll(() => rm(folder, { recursive: true }))

test('a picture tells the time of the library, which is within that of its three phases', async () => {
  await using service = await startService({
    dataDir: join(folder, 'data'),
    model: join(folder, 'small'),
    threads: 1,
  })
  const client = createAtelier({ baseUrl: service.address })
  const { data } = await client.images.generate({ prompt: 'a lighthouse', size: '128x128', steps: 3 })
  const { model, timings } = await client.images.retrieve(data[0]!.id)
  expect(model).toBe('small')
  expect(timings.compute_ms).toBeGreaterThan(0)
  expect(timings.compute_ms).toBeLessThan(timings.encode_ms + timings.denoise_ms + timings.decode_ms)
})
