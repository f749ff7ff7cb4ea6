/** A worker that is told to end: it finishes what a device has begun with, and leaves the rest to others. */
import { expect, test } from 'vitest'
import { gate, useService } from './fixture.ts'

const fixture = useService()

test('what is begun is finished, what is not is handed back at once, and nothing new is taken', async () => {
  const { passed, open } = gate()
  const isBegun = (seed: number) => seed === 1
  await fixture.start({
    beforeStart: ({ seed }) => (isBegun(seed) ? undefined : new Promise(() => undefined)),
    before: () => passed,
  })
  const begun = await fixture.create({ seed: 1 })
  await expect.poll(() => fixture.service.count()).toEqual({ queued: 0, running: 1 })
  const waiting = await fixture.create({ seed: 2 })
  await expect.poll(() => fixture.pool.requests.length).toBe(2)

  const draining = fixture.service.drain(60_000)
  const rowOf = (id: string) =>
    fixture.storage.database.prisma.generation.findUniqueOrThrow({ where: { id } })
  await expect.poll(() => fixture.pool.aborted).toEqual([`${waiting}/0`])
  await expect.poll(async () => (await rowOf(waiting)).heldBy).toBeNull()
  const later = await fixture.create({ seed: 3 })
  open()
  await draining
  expect(await rowOf(begun)).toMatchObject({ state: 'succeeded', attempt: 1 })
  expect(await fixture.service.count()).toEqual({ queued: 2, running: 0 })
  expect(fixture.pool.requests).toHaveLength(2)

  await fixture.service.close()
  await fixture.start()
  const settled = await Promise.all([waiting, later].map((id) => fixture.service.settled(id)))
  expect(settled.map(({ state }) => state)).toEqual(['succeeded', 'succeeded'])
})

test('what takes longer than the worker may wait is handed back when it closes', async () => {
  await fixture.start({ before: () => new Promise(() => undefined) })
  const id = await fixture.create()
  await expect.poll(() => fixture.service.count()).toEqual({ queued: 0, running: 1 })
  await fixture.service.drain(0)
  expect(await fixture.service.count()).toEqual({ queued: 0, running: 1 })
  await fixture.service.close()
  await fixture.start()
  expect(await fixture.service.settled(id)).toMatchObject({ state: 'succeeded' })
})
