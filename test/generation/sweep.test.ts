/** No blob that a row tells of is ever lost, and none that nobody tells of stays, however what happens is interleaved. */
import * as fc from 'fast-check'
import { pino } from 'pino'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { defaultProject } from '../../src/access/project.ts'
import { eraseExpired } from '../../src/generation/retention.ts'
import { GenerationLeases, type ClaimedGeneration, type NewImage } from '../../src/generation/leases.ts'
import { GenerationRecovery } from '../../src/generation/recovery.ts'
import { GenerationStore } from '../../src/generation/store.ts'
import { blobOwner, discardBlobs, sweepBlobs } from '../../src/generation/sweep.ts'
import { openStorage, type Storage } from '../../src/storage/storage.ts'
import { takeTurn } from '../../src/storage/upkeep.ts'
import { preparedFolder } from '../storage/prepared-folder.ts'
import { someRequest } from './parameters.ts'

const log = pino({ level: 'silent' })
const everything = { log, safetyAgeMs: -1000 } // the clock of files is not quite that of the process
let storage: Storage
let store: GenerationStore
let leases: GenerationLeases
let recovery: GenerationRecovery

beforeAll(async () => {
  const onError = (error: Error) => {
    throw error
  }
  const opened = await openStorage({ dataDir: await preparedFolder(), onError })
  // Of no age at all, what is unfinished would be what is being written.
  storage = { ...opened, blobs: withBlobs(opened, { removeUnfinished: () => Promise.resolve() }) }
  store = new GenerationStore(storage)
  leases = new GenerationLeases(storage)
  recovery = new GenerationRecovery(storage)
})
afterAll(() => storage.close())
beforeEach(async () => {
  await storage.database.prisma.generation.deleteMany()
  await sweepBlobs(storage, everything)
  await storage.generationQueue.clear()
})

const withBlobs = ({ blobs }: Storage, changes: Partial<Storage['blobs']>): Storage['blobs'] => ({
  put: (bytes, kind) => blobs.put(bytes, kind),
  open: (key, range) => blobs.open(key, range),
  delete: (key) => blobs.delete(key),
  list: () => blobs.list(),
  link: (key, link) => blobs.link(key, link),
  removeUnfinished: (before) => blobs.removeUnfinished(before),
  close: () => blobs.close(),
  ...changes,
})

const toldOf = async () => {
  const { prisma } = storage.database
  const [images, events] = await Promise.all([
    prisma.image.findMany({ select: { blobKey: true } }),
    prisma.generationEvent.findMany({ where: { blobKey: { not: null } }, select: { blobKey: true } }),
  ])
  return [...images, ...events].map(({ blobKey }) => blobKey ?? '').toSorted()
}
const stored = async () => (await Array.fromAsync(storage.blobs.list())).map(({ key }) => key).toSorted()

async function create(): Promise<string> {
  return (await store.create(someRequest(), () => undefined)).generation.id
}

const claim = () => leases.claim({ expectedMs: 0, count: 0 }, { workMs: Infinity, images: 2 })

const image = (blobKey: string, index = 0): NewImage => ({
  index,
  seed: 1,
  seedIndex: index,
  width: 8,
  height: 8,
  bucket: { width: 8, height: 8 },
  format: 'png',
  sizeBytes: 1,
  sha256: '0'.repeat(64),
  blobKey,
  joules: null,
  energySource: null,
  promptTruncated: false,
  modelVersion: 'v',
  timings: { waitMs: 1, encodeMs: 1, denoiseMs: 1, decodeMs: 1, computeMs: 1 },
  receipt: {
    device: 'cpu',
    deviceMs: 1,
    rowSteps: 1,
    meanBatchRows: 1,
    maxBatchRows: 1,
    promptCached: false,
  },
})

/** A worker's view of what it has in hand, which it keeps also when the row is not its own any more. */
interface Held {
  readonly generation: ClaimedGeneration
  readonly blobs: string[]
}

/** What several processes do; each picks by the number what it does it to. */
const acts = {
  create: async () => void (await create()),
  claim: async ({ held }) => {
    for (const generation of await claim()) held.push({ generation, blobs: [] })
  },
  put: async ({ pick }) => {
    const entry = pick()
    if (!entry) return
    const kind = { extension: 'png', owner: blobOwner(entry.generation) }
    entry.blobs.push(await storage.blobs.put(Buffer.from('x'), kind))
  },
  preview: async ({ pick }) => {
    const entry = pick()
    if (!entry) return
    const kind = { extension: 'webp', owner: blobOwner(entry.generation) }
    const blobKey = await storage.blobs.put(Buffer.from('p'), kind)
    const size = { width: 8, height: 8, sizeBytes: 1, format: 'webp' } as const
    const event = { type: 'preview', image: 0, step: 1, steps: 2, blobKey, ...size } as const
    await leases.writeProgress([{ ...entry.generation, startedAt: new Date(), events: [event] }])
  },
  succeed: async ({ take }) => {
    const entry = take()
    const [first, ...rest] = entry?.blobs ?? []
    if (!entry || first === undefined) return
    const images = [image(first), ...rest.map((key, i) => image(key, i + 1))] as const
    await leases.succeed(entry.generation, images, { startedAt: new Date(), events: [] })
  },
  fail: async ({ take }) => {
    const entry = take()
    const failure = { code: 'generation_failed', message: 'no' } as const
    if (entry) await leases.fail(entry.generation, failure, { startedAt: undefined, events: [] })
  },
  handBack: async ({ take }) => {
    const entry = take()
    if (entry) await leases.handBack(entry.generation, { startedAt: undefined, events: [] })
  },
  /** It goes on, as one that was cut off from the database does, while its rows are given to others. */
  presumeDead: async () => void (await recovery.recover()),
  die: async ({ held }) => void held.splice(0),
  cancel: async ({ pick }) => {
    const entry = pick()
    if (entry) await store.cancel(defaultProject, entry.generation.id)
  },
  delete: async ({ number }) => {
    const rows = await storage.database.prisma.generation.findMany({ where: { finishedAt: { not: null } } })
    const row = rows[number % Math.max(1, rows.length)]
    if (!row) return
    const keys = await store.delete(defaultProject, row.id)
    if (number % 2 === 0 && keys) await discardBlobs(keys, storage.blobs, log) // else it dies in between
  },
  erase: async ({ number }) => void (await eraseExpired(storage, { retentionMs: number, log })),
  sweep: async () => void (await sweepBlobs(storage, everything)),
} as const satisfies Record<string, (at: Turn) => Promise<void>>

interface Turn {
  readonly number: number
  readonly held: Held[]
  readonly pick: () => Held | undefined
  readonly take: () => Held | undefined
}

const act = fc.record({
  name: fc.constantFrom(...(Object.keys(acts) as (keyof typeof acts)[])),
  number: fc.nat(50),
})
/** Each group is begun at once; what it does is interleaved as the database and the disk let it. */
const story = fc.array(fc.array(act, { minLength: 1, maxLength: 4 }), { minLength: 6, maxLength: 16 })

describe('under any interleaving', () => {
  test('what rows tell of is there, and in the end nothing else is', { timeout: 300_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(story, async (groups) => {
        const held: Held[] = []
        await create()
        for (const group of groups) {
          await Promise.all(
            group.map(({ name, number }) => {
              const at = () => number % Math.max(1, held.length)
              const turn = { number, held, pick: () => held[at()], take: () => held.splice(at(), 1)[0] }
              return acts[name](turn)
            }),
          )
          const there = new Set(await stored())
          expect((await toldOf()).filter((key) => !there.has(key))).toEqual([])
        }
        // Everybody dies, and what they had in hand is given up.
        await recovery.recover()
        for (const { id } of await storage.database.prisma.generation.findMany())
          await store.cancel(defaultProject, id)
        // Whatever the story, somebody died between storing a picture and telling of it.
        await storage.blobs.put(Buffer.from('x'), { extension: 'png', owner: 'gen_nobody-1' })
        expect(await sweepBlobs(storage, everything)).toBeGreaterThan(0)
        expect(await stored()).toEqual(await toldOf())
      }),
      { numRuns: 5 },
    )
  })
})

test('what an attempt has made is kept while it may still tell of it, and not after', async () => {
  const id = await create()
  const [first] = await claim()
  if (!first) throw new Error('nothing was claimed')
  const early = await storage.blobs.put(Buffer.from('1'), { extension: 'png', owner: blobOwner(first) })
  expect(await sweepBlobs(storage, everything)).toBe(0)

  await recovery.recover()
  expect(await sweepBlobs(storage, everything)).toBe(0) // it waits, and nobody has claimed it since
  const [second] = await claim()
  if (!second) throw new Error('nothing was claimed again')
  const late = await storage.blobs.put(Buffer.from('2'), { extension: 'png', owner: blobOwner(second) })
  expect(await sweepBlobs(storage, everything)).toBe(1)
  expect(await stored()).toEqual([late])
  const unwritten = { startedAt: new Date(), events: [] }
  expect(await leases.succeed(first, [image(early)], unwritten)).toBe('lost')
  expect(await leases.succeed(second, [image(late)], unwritten)).toBe('written')
  expect(await sweepBlobs(storage, everything)).toBe(0)
  await store.delete(defaultProject, id)
  expect(await sweepBlobs(storage, everything)).toBe(1)
})

test('what is young is left alone', async () => {
  await storage.blobs.put(Buffer.from('x'), { extension: 'png', owner: 'gen_nobody-1' })
  expect(await sweepBlobs(storage, { log, safetyAgeMs: 60_000 })).toBe(0)
  expect(await sweepBlobs(storage, everything)).toBe(1)
})

test('a storage that does not let go of a blob does not keep the sweep from the others', async () => {
  const keys = [1, 2, 3].map(() =>
    storage.blobs.put(Buffer.from('x'), { extension: 'png', owner: 'gen_0-1' }),
  )
  const [stuck] = await Promise.all(keys)
  const failing = withBlobs(storage, {
    delete: (key) => (key === stuck ? Promise.reject(new Error('not now')) : storage.blobs.delete(key)),
  })
  expect(await sweepBlobs({ ...storage, blobs: failing }, everything)).toBe(2)
  expect(await stored()).toEqual([stuck])
})

describe('retention', () => {
  const finishedAgo = async (ms: number) => {
    const id = await create()
    const [claimed] = await claim()
    if (!claimed) throw new Error('nothing was claimed')
    const blobKey = await storage.blobs.put(Buffer.from('x'), { extension: 'png', owner: blobOwner(claimed) })
    await leases.succeed(claimed, [image(blobKey)], { startedAt: new Date(), events: [] })
    const finishedAt = new Date(Date.now() - ms)
    await storage.database.prisma.generation.update({ where: { id }, data: { finishedAt } })
    return id
  }

  test('erases what ended that long ago, with its pictures, and keeps the rest', async () => {
    await finishedAgo(61_000)
    const young = await finishedAgo(59_000)
    const waiting = await create()
    expect(await eraseExpired(storage, { retentionMs: 60_000, log })).toBe(1)
    const rows = await storage.database.prisma.generation.findMany({ select: { id: true } })
    expect(rows.map(({ id }) => id).toSorted()).toEqual([young, waiting].toSorted())
    expect(await stored()).toEqual(await toldOf())
    expect(await stored()).toHaveLength(1)
  })

  test('erases more than a batch, and several processes share the work', async () => {
    const { generation } = storage.database.prisma
    const first = await generation.findUniqueOrThrow({ where: { id: await create() } })
    const ids = Array.from({ length: 230 }, (_, i) => `gen_${i}`)
    const ended = { state: 'cancelled', finishedAt: new Date(1000) } as const
    await generation.createMany({ data: ids.map((id) => ({ ...first, ...ended, id })) })
    const options = { retentionMs: 0, log }
    const erased = await Promise.all([eraseExpired(storage, options), eraseExpired(storage, options)])
    expect(erased[0] + erased[1]).toBe(ids.length)
    expect(await generation.count()).toBe(1) // the one that waits
  })

  test('without an age erases nothing', async () => {
    await finishedAgo(1e12)
    expect(await eraseExpired(storage, { retentionMs: Infinity, log })).toBe(0)
  })
})

test('of many processes one has the turn, and the next comes after its time', async () => {
  const turns = await Promise.all(Array.from({ length: 8 }, () => takeTurn(storage.database, 'a', 60_000)))
  expect(turns.filter(Boolean)).toHaveLength(1)
  expect(await takeTurn(storage.database, 'b', 60_000)).toBe(true)
  expect(await takeTurn(storage.database, 'a', 60_000)).toBe(false)
  await storage.database.prisma.upkeep.update({
    where: { name: 'a' },
    data: { begunAt: new Date(Date.now() - 61_000) },
  })
  expect(await takeTurn(storage.database, 'a', 60_000)).toBe(true)
})
