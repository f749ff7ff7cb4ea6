import { randomUUID } from 'node:crypto'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Generation } from '../../src/generation/generation.ts'
import type { ListOptions } from '../../src/generation/service.ts'
import { gate, useService } from './fixture.ts'

const fixture = useService()

const prisma = () => fixture.storage.database.prisma

describe('a list', () => {
  const states = ['queued', 'running', 'succeeded', 'failed', 'cancelled'] as const
  const models = ['paint', 'other']

  /** 60 rows, five in each second, of all states and two models; none of them in the queue. */
  async function fill(): Promise<
    { id: string; createdAt: Date; state: Generation['state']; model: string }[]
  > {
    const { passed } = gate()
    await fixture.start({ beforeStart: () => passed })
    const id = await fixture.create()
    const { id: _, ...row } = await prisma().generation.findUniqueOrThrow({ where: { id } })
    await fixture.service.cancel(id)
    await fixture.service.delete(id)
    await fixture.service.close()
    const rows = Array.from({ length: 60 }, (_, index) => {
      const state = states[index % states.length]!
      const startedAt = new Date('2026-03-01')
      return {
        ...row,
        id: `gen_${randomUUID().replaceAll('-', '')}`,
        createdAt: new Date(startedAt.getTime() + Math.floor(index / 5) * 1000),
        state,
        model: models[index % models.length]!,
        attempt: 1,
        claimed: state === 'running',
        startedAt,
        modelVersion: 'v',
        finishedAt: state === 'queued' || state === 'running' ? null : startedAt,
        ...(state === 'failed' ? { errorCode: 'generation_failed', errorMessage: 'no' } : {}),
      }
    })
    await prisma().generation.createMany({ data: rows })
    return rows
  }

  async function pages(options: ListOptions): Promise<Generation[][]> {
    const all: Generation[][] = []
    for (let cursor: string | undefined; ;) {
      const { data, nextCursor } = await fixture.service.list({ ...options, cursor })
      all.push([...data])
      if (nextCursor === undefined) return all
      cursor = nextCursor
    }
  }

  test('gives every generation that matches once, newest first, page by page, whatever the filters', async () => {
    const rows = await fill()
    const second = fc.option(fc.integer({ min: -1, max: 13 }), { nil: undefined })
    const at = (second: number | undefined) =>
      second === undefined ? undefined : new Date(Date.parse('2026-03-01') + second * 1000)
    const options = fc.record({
      limit: fc.integer({ min: 1, max: 100 }),
      state: fc.option(fc.constantFrom(...states), { nil: undefined }),
      model: fc.option(fc.constantFrom(...models, 'none'), { nil: undefined }),
      createdAfter: second.map(at),
      createdBefore: second.map(at),
    })
    await fc.assert(
      fc.asyncProperty(options, async (options) => {
        const { limit, state, model, createdAfter, createdBefore } = options
        const expected = rows
          .filter((row) => state === undefined || row.state === state)
          .filter((row) => model === undefined || row.model === model)
          .filter((row) => createdAfter === undefined || row.createdAt >= createdAfter)
          .filter((row) => createdBefore === undefined || row.createdAt < createdBefore)
          .toSorted((a, b) => b.createdAt.getTime() - a.createdAt.getTime() || (a.id < b.id ? 1 : -1))
        const found = await pages(options)
        expect(found.flat().map(({ id }) => id)).toEqual(expected.map(({ id }) => id))
        for (const page of found.slice(0, -1)) expect(page).toHaveLength(limit)
      }),
      { numRuns: 30 },
    )
    await prisma().generation.deleteMany()
    await fixture.start()
  })

  test('stays in place while new generations come', async () => {
    const { passed, open } = gate()
    await fixture.start({ beforeStart: () => passed })
    const ids = [await fixture.create(), await fixture.create(), await fixture.create()]
    const first = await fixture.service.list({ limit: 2 })
    expect(first.data.map(({ id }) => id)).toEqual([ids[2], ids[1]])
    await fixture.create()
    const rest = await fixture.service.list({ limit: 2, cursor: first.nextCursor })
    expect(rest).toMatchObject({ data: [{ id: ids[0] }], nextCursor: undefined })
    open()
  })

  test('gives 20 unless told', async () => {
    await fill()
    expect((await fixture.service.list()).data).toHaveLength(20)
    await prisma().generation.deleteMany()
    await fixture.start()
  })

  test.each(['', 'x', 'bm90IGEgY3Vyc29y', '../../etc'])('refuses the cursor %j', async (cursor) => {
    await fixture.start()
    await expect(fixture.service.list({ cursor })).rejects.toMatchObject({
      code: 'invalid_cursor',
      parameter: 'cursor',
    })
  })
})

describe('deletion', () => {
  test('takes the generation, its pictures, its previews and its events, and nothing of another', async () => {
    await fixture.start()
    const [id, other] = [
      await fixture.create({ count: 2, steps: 4 }, { previews: { everySteps: 2 } }),
      await fixture.create({ steps: 4 }, { previews: { everySteps: 2 } }),
    ]
    const [done, kept] = [await fixture.service.settled(id), await fixture.service.settled(other)]
    if (done.state !== 'succeeded' || kept.state !== 'succeeded') throw new Error('expected successes')
    expect(fixture.files()).toHaveLength(2 + 2 + 1 + 1)
    expect(await fixture.service.delete(id)).toBe(true)
    expect(await fixture.service.get(id)).toBeUndefined()
    for (const image of done.images) expect(await fixture.service.image(image.id)).toBeUndefined()
    expect(fixture.files()).toHaveLength(1 + 1)
    expect(await prisma().generationEvent.count({ where: { generationId: id } })).toBe(0)
    expect(await fixture.service.get(other)).toEqual(kept)
    expect(await fixture.service.delete(id)).toBe(false)
    await fixture.service.delete(other)
    expect(fixture.files()).toEqual([])
  })

  test('of what is not final is refused', async () => {
    const { passed, open } = gate()
    await fixture.start({ before: () => passed, window: { images: 1 } })
    const [running, queued] = [await fixture.create(), await fixture.create()]
    await expect.poll(() => fixture.service.count()).toEqual({ queued: 1, running: 1 })
    for (const id of [running, queued])
      await expect(fixture.service.delete(id)).rejects.toMatchObject({ code: 'not_settled' })
    await fixture.service.cancel(queued)
    expect(await fixture.service.delete(queued)).toBe(true)
    open()
    expect((await fixture.service.settled(running)).state).toBe('succeeded')
  })

  test('leaves the idempotency key in use', async () => {
    await fixture.start()
    const idempotencyKey = randomUUID()
    const id = await fixture.create({}, { idempotencyKey })
    await fixture.service.settled(id)
    await fixture.service.delete(id)
    await expect(fixture.create({}, { idempotencyKey })).rejects.toMatchObject({ code: 'generation_deleted' })
  })
})

describe('a call under an idempotency key', () => {
  const call = (key: string) => ({ key, operation: 'cancelGeneration', body: { id: 'gen_1' } })

  test('runs once for 200 concurrent twins, and its answer is kept over a start', async () => {
    await fixture.start()
    const key = randomUUID()
    let runs = 0
    const work = async () => ({ run: ++runs, nothing: null })
    const all = await Promise.all(Array.from({ length: 200 }, () => fixture.service.once(call(key), work)))
    expect(runs).toBe(1)
    for (const { answer } of all) expect(answer).toEqual({ run: 1, nothing: null })
    expect(all.filter(({ replayed }) => !replayed)).toHaveLength(1)
    await fixture.service.close()
    await fixture.start()
    expect(await fixture.service.once(call(key), work)).toEqual({
      answer: { run: 1, nothing: null },
      replayed: true,
    })
  })

  test('that failed may be sent again', async () => {
    await fixture.start()
    const key = randomUUID()
    const failing = fixture.service.once(call(key), () => Promise.reject(new Error('not this time')))
    await expect(failing).rejects.toThrow('not this time')
    expect(await fixture.service.once(call(key), async () => null)).toEqual({ answer: null, replayed: false })
    expect(await fixture.service.once(call(key), async () => 1)).toEqual({ answer: null, replayed: true })
  })

  test('that the end of the server cut short may be sent again', async () => {
    await fixture.start()
    const key = randomUUID()
    const never = fixture.service.once(call(key), () => new Promise(() => undefined))
    void never.catch(() => undefined)
    await expect.poll(() => prisma().idempotencyKey.count({ where: { key } })).toBe(1)
    await fixture.service.close()
    await prisma().idempotencyKey.updateMany({ where: { key }, data: { heldBy: null } }) // by a process that is gone
    await fixture.start()
    expect(await fixture.service.once(call(key), async () => 'done')).toEqual({
      answer: 'done',
      replayed: false,
    })
  })

  test('with another body or for another operation is a conflict, of generations too', async () => {
    await fixture.start()
    const key = randomUUID()
    await fixture.service.once(call(key), async () => 1)
    const conflict = { code: 'idempotency_conflict' }
    const again = { ...call(key), body: { id: 'gen_2' } }
    await expect(fixture.service.once(again, async () => 2)).rejects.toMatchObject(conflict)
    const elsewhere = { ...call(key), operation: 'deleteGeneration' }
    await expect(fixture.service.once(elsewhere, async () => 2)).rejects.toMatchObject(conflict)
    await expect(fixture.create({}, { idempotencyKey: key })).rejects.toMatchObject(conflict)
    const other = randomUUID()
    await fixture.create({}, { idempotencyKey: other, idempotencyOperation: 'createGeneration' })
    await expect(fixture.create({}, { idempotencyKey: other })).rejects.toMatchObject(conflict)
    await expect(fixture.service.once(call(other), async () => 2)).rejects.toMatchObject(conflict)
  })
})
