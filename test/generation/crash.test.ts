import { createHash } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { pino } from 'pino'
import sharp from 'sharp'
import { expect, test } from 'vitest'
import { startGenerationService } from '../../src/generation/service.ts'
import { maxCrashes } from '../../src/generation/recovery.ts'
import { openStorage } from '../../src/storage/storage.ts'
import { owned } from '../access/owned.ts'
import { startChild } from '../storage/folders.ts'
import { preparedFolder } from '../storage/prepared-folder.ts'
import { paint, paintPool } from './paint-pool.ts'

/** Fewer than the crashes after which a request is given up. */
const rounds = maxCrashes - 1

test(
  'after kills at random moments every accepted generation is finished, with all its files and no other',
  { timeout: 120_000 },
  async () => {
    const dataDir = await preparedFolder()
    const accepted: string[] = []
    for (let round = 0; round < rounds; round++) {
      const child = startChild(fileURLToPath(new URL('crash-child.ts', import.meta.url)), [
        dataDir,
        String(round),
      ])
      expect((await child.lines.next()).value).toBe('open')
      const enough = 1 + Math.floor(Math.random() * 15)
      for (let i = 0; i < enough; i++) accepted.push((await child.lines.next()).value as string)
      await sleep(Math.random() * 100) // the moment of the kill is what this test varies; nothing is awaited by it
      await child.kill()
      for (let line = await child.lines.next(); line.done !== true; line = await child.lines.next())
        accepted.push(line.value)
    }

    const storage = await openStorage({
      dataDir,
      onError: (error) => {
        throw error
      },
    })
    const interrupted = await storage.database.prisma.generation.count({
      where: { state: { in: ['queued', 'running'] } },
    })
    expect(interrupted).toBeGreaterThan(0)
    const service = owned(
      await startGenerationService({
        storage,
        pool: paintPool(),
        log: pino({ level: 'silent' }),
        maxWaitMs: 1e9,
        sweep: { everyMs: 0, safetyAgeMs: 0 },
      }),
    )
    // a row may have been committed whose acceptance the kill kept from being told; it counts as accepted
    const rows = await storage.database.prisma.generation.findMany({ select: { id: true } })
    const ids = new Set(rows.map(({ id }) => id))
    expect(accepted.filter((id) => !ids.has(id))).toEqual([])

    const keys: string[] = []
    let repeated = 0
    for (const id of ids) {
      const generation = await service.settled(id)
      if (generation.state !== 'succeeded')
        throw new Error(`expected a success: ${JSON.stringify(generation)}`)
      if (generation.attempt > 1) repeated += 1
      expect(generation.images.map(({ index }) => index)).toEqual(
        Array.from({ length: generation.parameters.count }, (_, i) => i),
      )
      for (const image of generation.images) {
        keys.push(image.blobKey)
        const bytes = await buffer(await service.openBlob(image.blobKey))
        expect(createHash('sha256').update(bytes).digest('hex')).toBe(image.sha256)
        const pixels = await sharp(bytes).raw().toBuffer()
        expect(pixels.equals(paint({ ...generation.parameters, seedIndex: image.seedIndex }))).toBe(true)
      }
    }
    expect(repeated).toBeGreaterThan(0)
    await service.close()
    await storage.close()
    const files = readdirSync(join(dataDir, 'blobs'), { recursive: true, withFileTypes: true }).filter(
      (entry) => entry.isFile(),
    )
    expect(files.map(({ name }) => name).sort()).toEqual(keys.map((key) => key.slice(3)).sort())
  },
)
