import { describe, expect, test } from 'vitest'
import type { SettledGeneration } from '../../src/generation/generation.ts'
import { maxCrashes } from '../../src/generation/recovery.ts'
import { gate, types, useService } from './fixture.ts'

const fixture = useService()

const prisma = () => fixture.storage.database.prisma
const settled = (ids: readonly string[]): Promise<SettledGeneration[]> =>
  Promise.all(ids.map((id) => fixture.service.settled(id)))
const begun = () => fixture.pool.requests.map(({ id }) => id.split('/')[0])

describe('the window', () => {
  test('holds about as much expected work as it allows for each device, and is topped up', async () => {
    const { passed, open } = gate()
    await fixture.start({ before: () => passed, stepCostMs: 1000, devices: 2, window: { workMs: 3000 } })
    const ids: string[] = []
    for (let seed = 0; seed < 10; seed++) ids.push(await fixture.create({ seed, steps: 2 }))
    // 2 s each: three make the 6 s of two devices full
    await expect.poll(() => fixture.service.count()).toEqual({ queued: 7, running: 3 })
    expect(fixture.pool.requests).toHaveLength(3)
    open()
    await settled(ids)
    expect(fixture.pool.requests.map(({ seed }) => seed).toSorted((a, b) => a - b)).toEqual([
      0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
    ])
  })

  test('takes high priority and near deadlines first, low priority last, equals as they came', async () => {
    const { passed, open } = gate()
    await fixture.start({ beforeStart: () => passed, window: { images: 1 } })
    const first = await fixture.create()
    await expect.poll(() => fixture.pool.requests.length).toBe(1)
    const low = await fixture.create({}, { priority: 'low' })
    const normal = [await fixture.create(), await fixture.create()]
    const late = await fixture.create({}, { priority: 'low', deadline: new Date(Date.now() - 60_000) })
    const high = await fixture.create({}, { priority: 'high' })
    open()
    await settled([low])
    expect(begun()).toEqual([first, high, late, ...normal, low])
    const request = fixture.pool.requests.at(2)
    expect(request).toMatchObject({ priority: 'low', deadlineMs: expect.any(Number) })
  })

  test('counts what it holds as queued until a device begins with it', async () => {
    const { passed, open } = gate()
    await fixture.start({ beforeStart: () => passed })
    const ids = [await fixture.create(), await fixture.create()]
    await expect.poll(() => fixture.pool.requests.length).toBe(2)
    expect(await fixture.service.count()).toEqual({ queued: 2, running: 0 })
    expect(await fixture.service.get(ids[0]!)).toMatchObject({ state: 'queued', attempt: 1 })
    open()
    await settled(ids)
  })
})

describe('what to expect', () => {
  test('of one that waits: how many and how much goes before it, over the devices', async () => {
    const { passed, open } = gate()
    await fixture.start({ before: () => passed, stepCostMs: 1000, devices: 2, window: { images: 1 } })
    const running = await fixture.create({ steps: 4 })
    await expect.poll(() => fixture.service.count()).toEqual({ queued: 0, running: 1 })
    const [second, third] = [await fixture.create({ steps: 2 }), await fixture.create({ steps: 1, count: 2 })]
    const urgent = await fixture.create({ steps: 1 }, { priority: 'high' })
    expect(await fixture.service.get(urgent)).toMatchObject({ queuePosition: 0, etaSeconds: 3 })
    expect(await fixture.service.get(second)).toMatchObject({ queuePosition: 1, etaSeconds: 4.5 })
    expect(await fixture.service.get(third)).toMatchObject({ queuePosition: 2, etaSeconds: 4.5 })
    expect(await fixture.service.metrics()).toMatchObject({
      queued: 3,
      running: 1,
      expectedWorkSeconds: 9,
      expectedWaitSeconds: 4.5,
      oldestQueuedSeconds: expect.any(Number),
      devices: [{ name: 'paint:0' }, { name: 'paint:1' }],
    })
    open()
    await settled([running, second, third, urgent])
    const done = await fixture.service.get(third)
    expect(done).not.toHaveProperty('queuePosition')
    expect(done).not.toHaveProperty('etaSeconds')
    expect(await fixture.service.metrics()).toMatchObject({
      queued: 0,
      running: 0,
      expectedWorkSeconds: 0,
      oldestQueuedSeconds: 0,
      totals: {
        succeeded: 4,
        failed: 0,
        cancelled: 0,
        refused: 0,
        images: 5,
        deviceSeconds: 9,
        rowSteps: 18,
      },
    })
  })

  test('of one that runs: steps over all its pictures, and what is left', async () => {
    const { passed, open } = gate()
    await fixture.start({
      stepCostMs: 100_000,
      before: ({ seedIndex }) => (seedIndex === 1 ? passed : undefined),
    })
    const id = await fixture.create({ steps: 3, count: 2 })
    await expect.poll(async () => (await fixture.service.get(id))?.progress).toEqual({ step: 3, steps: 6 })
    const { etaSeconds = 0 } = (await fixture.service.get(id)) ?? {}
    expect(etaSeconds).toBeGreaterThan(200)
    expect(etaSeconds).toBeLessThanOrEqual(300)
    open()
    await settled([id])
  })
})

describe('a request under which the whole server died', () => {
  /** As a kill leaves the row: claimed, with a device at work. */
  const crash = async (id: string) => {
    await prisma().generation.update({
      where: { id },
      data: { state: 'running', claimed: true, attempt: { increment: 1 }, startedAt: new Date() },
    })
  }

  test(`${maxCrashes} times is not tried again`, async () => {
    const { passed, open } = gate()
    await fixture.start({ beforeStart: () => passed })
    const [killer, other] = [await fixture.create(), await fixture.create()]
    await fixture.service.close()
    for (let crashes = 1; crashes <= maxCrashes; crashes++) {
      await crash(killer)
      await fixture.start({ beforeStart: () => passed })
      if (crashes < maxCrashes) await fixture.service.close()
    }
    expect(await fixture.service.get(killer)).toMatchObject({
      state: 'failed',
      error: { code: 'server_failed' },
    })
    const events = await Array.fromAsync(fixture.service.events(killer))
    expect(types(events)).toEqual(['queued', ...Array(maxCrashes - 1).fill('queued'), 'failed'])
    open()
    expect(await settled([other])).toMatchObject([{ state: 'succeeded' }])
  })

  test('twice is made before all others and alone', async () => {
    const { passed, open } = gate()
    await fixture.start({ beforeStart: () => passed })
    const ids = [await fixture.create(), await fixture.create(), await fixture.create()]
    const suspect = ids[2]!
    await fixture.service.close()
    for (let crashes = 1; crashes <= 2; crashes++) {
      await crash(suspect)
      await fixture.start({ beforeStart: () => passed })
      await fixture.service.close()
    }
    const alone = gate()
    await fixture.start({ beforeStart: ({ id }) => (id.startsWith(suspect) ? alone.passed : undefined) })
    await expect.poll(() => fixture.pool.requests.length).toBe(1)
    await fixture.create()
    expect(begun()).toEqual([suspect])
    alone.open()
    expect(await settled(ids)).toMatchObject([{}, {}, {}].map(() => ({ state: 'succeeded' })))
    open()
  })

  test('is not one that a stop handed back, or that only waited', async () => {
    const { passed, open } = gate()
    await fixture.start({ before: () => passed })
    const id = await fixture.create()
    for (let stops = 0; stops < maxCrashes + 1; stops++) {
      await expect.poll(() => fixture.pool.requests.length).toBe(1)
      await fixture.service.close()
      await prisma().generation.update({ where: { id }, data: { claimed: true } }) // in hand at a kill, not begun
      await fixture.start({ before: () => passed })
    }
    open()
    expect(await settled([id])).toMatchObject([{ state: 'succeeded', attempt: maxCrashes + 2 }])
    expect((await prisma().generation.findUnique({ where: { id } }))?.crashes).toBe(0)
  })
})
