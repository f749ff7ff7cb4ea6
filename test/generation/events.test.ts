import { buffer } from 'node:stream/consumers'
import * as fc from 'fast-check'
import sharp from 'sharp'
import { describe, expect, test } from 'vitest'
import { EngineError } from '../../src/engine/protocol.ts'
import type { EventDetails, GenerationEvent } from '../../src/generation/events.ts'
import { GenerationLeases } from '../../src/generation/leases.ts'
import { gate, types, useService } from './fixture.ts'

const fixture = useService()

const eventsOf = (id: string, afterEventId = 0): Promise<GenerationEvent[]> =>
  Array.fromAsync(fixture.service.events(id, { afterEventId }))

const counted = (events: readonly GenerationEvent[]) => events.map(({ id }) => id)
const upTo = (last: number) => Array.from({ length: last }, (_, index) => index + 1)

describe('the events of a generation', () => {
  test('tell its life, numbered from 1, with fast steps told as one and the last one of every picture', async () => {
    await fixture.start()
    const events = await eventsOf(await fixture.create({ count: 3, steps: 100 }))
    const steps = events.flatMap((event) => (event.type === 'step' ? [event] : []))
    expect(counted(events)).toEqual(upTo(events.length))
    expect(types(events).slice(0, 2)).toEqual(['queued', 'started'])
    expect(events[0]).toMatchObject({ position: 0, at: expect.any(Date) })
    expect(events.at(-1)).toMatchObject({ type: 'succeeded' })
    expect(steps).toHaveLength(events.length - 3)
    const ended = steps.filter(({ step }) => step === 100)
    expect(ended.map(({ image }) => image).toSorted((a, b) => a - b)).toEqual([0, 1, 2])
    for (const step of ended) expect(step).toMatchObject({ steps: 100, etaSeconds: 0, batchRows: 2 })
    // 300 steps; each write to the database tells at most one that is not the last
    expect(steps.length).toBeLessThan(3 + 10)
  })

  test('of slow steps come while it runs, each of them', async () => {
    const told = [gate(), gate(), gate(), gate()]
    await fixture.start({ beforeStep: (step) => told[step - 1]?.passed })
    const id = await fixture.create({ steps: 4 })
    told[0]?.open()
    const seen: [number, string | undefined][] = []
    for await (const event of fixture.service.events(id)) {
      if (event.type !== 'step') continue
      seen.push([event.step, event.step < 4 ? (await fixture.service.get(id))?.state : undefined])
      told[event.step]?.open()
    }
    expect(seen).toEqual([
      [1, 'running'],
      [2, 'running'],
      [3, 'running'],
      [4, undefined],
    ])
  })

  test('tell who waits how many wait before it', async () => {
    const { passed, open } = gate()
    await fixture.start({ before: () => passed, window: { images: 1 } })
    const first = await fixture.create()
    await expect.poll(() => fixture.service.count()).toEqual({ queued: 0, running: 1 })
    const [second, third] = [await fixture.create(), await fixture.create()]
    open()
    expect((await eventsOf(first))[0]).toMatchObject({ type: 'queued', position: 0 })
    expect((await eventsOf(second))[0]).toMatchObject({ type: 'queued', position: 0 })
    expect((await eventsOf(third))[0]).toMatchObject({ type: 'queued', position: 1 })
  })

  test('end with the failure', async () => {
    await fixture.start({
      before: () => {
        throw new EngineError('device_failed', 'it died')
      },
    })
    const events = await eventsOf(await fixture.create())
    expect(types(events)).toEqual(['queued', 'started', 'failed'])
    expect(events.at(-1)).toMatchObject({ error: { code: 'device_failed', message: 'it died' } })
  })

  test('end with the cancellation, and nothing is told after it', async () => {
    await fixture.start({ stepMs: 5 })
    const id = await fixture.create({ steps: 100_000, count: 2 }, { previews: { everySteps: 20 } })
    const seen: GenerationEvent[] = []
    for await (const event of fixture.service.events(id)) {
      seen.push(event)
      if (event.type === 'preview') await fixture.service.cancel(id)
    }
    expect(seen.at(-1)?.type).toBe('cancelled')
    await fixture.service.close()
    expect(await eventsOf(id)).toEqual(seen)
    // every preview file that is left has its event
    const keys = seen.flatMap((event) => (event.type === 'preview' ? [event.blobKey.slice(3)] : []))
    expect(fixture.files().sort()).toEqual(keys.sort())
    await fixture.service.delete(id)
    expect(fixture.files()).toEqual([])
  })

  test('go on after a stop and a start of the server', async () => {
    const { passed } = gate()
    await fixture.start({ beforeStep: (step) => (step > 1 ? passed : undefined) })
    const id = await fixture.create({ steps: 4 })
    const before: GenerationEvent[] = []
    for await (const event of fixture.service.events(id)) {
      before.push(event)
      if (event.type === 'step') break
    }
    await fixture.service.close()
    await fixture.start()
    const after = await eventsOf(id, before.at(-1)?.id)
    expect(types(before)).toEqual(['queued', 'started', 'step'])
    expect(types(after).filter((type) => type !== 'step')).toEqual(['queued', 'started', 'succeeded'])
    expect(counted([...before, ...after])).toEqual(upTo(before.length + after.length))
  })

  test('are told from any of them on, and not at all after the last', async () => {
    await fixture.start()
    const id = await fixture.create()
    const all = await eventsOf(id)
    for (const { id: after } of all) expect(await eventsOf(id, after)).toEqual(all.slice(after))
    expect(await eventsOf(id, 1_000_000)).toEqual([])
  })

  test('of nobody are an error; of one that is deleted they end; a listener that leaves hears its own reason', async () => {
    const { passed, open } = gate()
    await fixture.start({ before: () => passed })
    await expect(eventsOf('gen_none')).rejects.toMatchObject({ code: 'not_found' })

    const id = await fixture.create()
    const leaving = new AbortController()
    const listening = Array.fromAsync(fixture.service.events(id, { signal: leaving.signal }))
    await expect.poll(() => fixture.service.count()).toEqual({ queued: 0, running: 1 })
    leaving.abort(new Error('the client left'))
    await expect(listening).rejects.toThrow('the client left')

    const slow = fixture.service.events(id)[Symbol.asyncIterator]()
    expect((await slow.next()).value).toMatchObject({ type: 'queued' })
    open()
    await fixture.service.settled(id)
    await fixture.service.delete(id)
    let ended = false
    for (let rest = 0; rest < 10 && !ended; rest++) ended = (await slow.next()).done === true
    expect(ended).toBe(true)
  })
})

describe('previews', () => {
  test('are WebP files that their events name, kept over a start, and gone with the events', async () => {
    await fixture.start()
    const id = await fixture.create({ count: 2, steps: 5 }, { previews: { everySteps: 2 } })
    const events = await eventsOf(id)
    const previews = events.flatMap((event) => (event.type === 'preview' ? [event] : []))
    const shown = previews.map(({ image, step, steps }) => `picture ${image}, step ${step} of ${steps}`)
    expect(shown.toSorted()).toEqual([
      'picture 0, step 2 of 5',
      'picture 0, step 4 of 5',
      'picture 1, step 2 of 5',
      'picture 1, step 4 of 5',
    ])
    expect(fixture.pool.requests[0]?.previews).toEqual({ steps: [2, 4], maxSide: 256 })
    await fixture.service.close()
    await fixture.start()
    expect(await fixture.service.swept).toBe(0)
    for (const { blobKey, sizeBytes, width, height, format } of previews) {
      expect({ width, height, format }).toEqual({ width: 8, height: 4, format: 'webp' })
      const bytes = await buffer(await fixture.service.openBlob(blobKey))
      expect(bytes).toHaveLength(sizeBytes)
      expect(await sharp(bytes).metadata()).toMatchObject({ format, width, height })
    }

    await age(id, 59)
    await fixture.service.close()
    await fixture.start()
    expect(await eventsOf(id)).toHaveLength(events.length)
    await age(id, 61)
    await fixture.service.close()
    await fixture.start()
    expect(await fixture.storage.database.prisma.generationEvent.count()).toBe(0)
    expect(await eventsOf(id)).toEqual([{ id: events.length, type: 'succeeded', at: expect.any(Date) }])
    expect(await eventsOf(id, events.length)).toEqual([])
    const done = await fixture.service.get(id)
    if (done?.state !== 'succeeded') throw new Error('expected a success')
    expect(fixture.files().sort()).toEqual(done.images.map(({ blobKey }) => blobKey.slice(3)).sort())
  })

  /** Makes the generation as old as if it had ended so many minutes ago. */
  async function age(id: string, minutes: number): Promise<void> {
    const then = new Date(Date.now() - minutes * 60_000)
    const { prisma } = fixture.storage.database
    await prisma.generation.update({ where: { id }, data: { finishedAt: then } })
    await prisma.generationEvent.updateMany({ where: { generationId: id }, data: { createdAt: then } })
  }
})

test(
  'listeners that drop and resume at random hear every event once and in order',
  { timeout: 120_000 },
  async () => {
    const drop = fc.record({
      /** Leaves after so many events, */
      events: fc.integer({ min: 1, max: 8 }),
      /** or when so much time has passed, in the middle of whatever it does. */
      ms: fc.integer({ min: 0, max: 60 }),
    })
    const listeners = fc.array(fc.array(drop, { minLength: 1, maxLength: 12 }), {
      minLength: 6,
      maxLength: 6,
    })
    const burst = fc.integer({ min: 1, max: 40 })
    await fc.assert(
      fc.asyncProperty(
        listeners,
        fc.array(burst, { minLength: 5, maxLength: 15 }),
        async (listeners, bursts) => {
          const { passed, open } = gate()
          await fixture.start({ beforeStart: () => passed })
          const id = await fixture.create()
          const listening = listeners.map((drops) => listenThrough(id, drops))
          // As the worker writes them, as fast as the database takes them.
          await expect.poll(() => fixture.pool.requests.length).toBe(1)
          const leases = new GenerationLeases(fixture.storage)
          for (const [step, length] of bursts.entries()) {
            const events = Array.from({ length }, (_, image): EventDetails => {
              return { type: 'step', image, step, steps: 100, etaSeconds: 1, batchRows: 2 }
            })
            expect(await leases.writeProgress([{ id, attempt: 1, startedAt: new Date(), events }])).toEqual(
              new Set(),
            )
          }
          open()
          const heard = await Promise.all(listening)
          const all = await eventsOf(id)
          expect(all.length).toBeGreaterThan(bursts.reduce((sum, length) => sum + length))
          expect(counted(all)).toEqual(upTo(all.length))
          for (const events of heard) expect(events).toEqual(all)
          await fixture.service.close()
        },
      ),
      { numRuns: 5 },
    )
  },
)

/** Hears the events to the end, leaving and coming back as the drops say. */
async function listenThrough(
  id: string,
  drops: readonly { readonly events: number; readonly ms: number }[],
): Promise<GenerationEvent[]> {
  const heard: GenerationEvent[] = []
  for (let drop = 0; ; drop++) {
    const { events, ms } = drops[drop] ?? { events: Infinity, ms: 600_000 }
    const signal = AbortSignal.timeout(ms)
    let left = events
    try {
      for await (const event of fixture.service.events(id, { afterEventId: heard.at(-1)?.id, signal })) {
        heard.push(event)
        if (['succeeded', 'failed', 'cancelled'].includes(event.type)) return heard
        if (--left === 0) break
      }
    } catch (error) {
      if (error !== signal.reason) throw error
    }
  }
}
