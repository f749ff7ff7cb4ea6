import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import type { Transaction } from '../../src/storage/database.ts'
import { openStorage, type Storage } from '../../src/storage/storage.ts'
import { storagePlace } from '../postgres/database.ts'

let storage: Storage
beforeAll(async () => {
  storage = await openStorage({
    ...(await storagePlace()),
    onError: (error) => {
      throw error
    },
  })
})
beforeEach(() => storage.generationQueue.clear())
afterAll(() => storage.close())

const queue = () => storage.generationQueue
const inTransaction = <T>(work: (transaction: Transaction) => Promise<T>): Promise<T> =>
  storage.database.prisma.$transaction(work)
const fetch = (limit: number) =>
  inTransaction((transaction) => queue().fetch(transaction, limit)).then((ids) => new Set(ids))
const send = async (id: string, turnAt = new Date('2026-03-01')) => {
  await inTransaction((transaction) => queue().send(transaction, [{ id, turnAt }]))
  return id
}

test('a job exists when its transaction committed, and only then', async () => {
  const id = randomUUID()
  const rolledBack = inTransaction(async (transaction) => {
    await queue().send(transaction, [{ id, turnAt: new Date() }])
    throw new Error('roll back')
  })
  await expect(rolledBack).rejects.toThrow('roll back')
  expect(await fetch(10)).toEqual(new Set())
  await send(id)
  expect(await fetch(10)).toEqual(new Set([id]))
})

test('jobs are fetched oldest first, no more than asked for, each once', async () => {
  const ids = [await send(randomUUID()), await send(randomUUID()), await send(randomUUID())]
  expect(await fetch(2)).toEqual(new Set(ids.slice(0, 2)))
  expect(await fetch(2)).toEqual(new Set(ids.slice(2)))
  expect(await fetch(2)).toEqual(new Set())
})

test('a job that was handed back keeps its place; a removed one is gone', async () => {
  const [first, second, third] = [
    await send(randomUUID()),
    await send(randomUUID()),
    await send(randomUUID()),
  ]
  expect(await fetch(2)).toEqual(new Set([first, second]))
  await inTransaction((transaction) => queue().handBack(transaction, first))
  await inTransaction((transaction) => queue().remove(transaction, second))
  expect(await fetch(1)).toEqual(new Set([first]))
  expect(await fetch(10)).toEqual(new Set([third]))
})

test('jobs are fetched in the order of their turns, whenever they were sent', async () => {
  const seconds = [5, 3, 9, 0, 7, 1]
  const turns = seconds.map((second) => ({
    id: randomUUID(),
    turnAt: new Date(Date.UTC(2026, 2, 1, 0, 0, second)),
  }))
  await inTransaction((transaction) => queue().send(transaction, turns.slice(0, 4)))
  for (const { id, turnAt } of turns.slice(4)) await send(id, turnAt)
  const early = await send(randomUUID(), new Date(Date.UTC(2000, 0)))
  const late = await send(randomUUID(), new Date(Date.UTC(2090, 0)))
  const inOrder = turns.toSorted((a, b) => a.turnAt.getTime() - b.turnAt.getTime()).map(({ id }) => id)
  for (const id of [early, ...inOrder, late]) expect(await fetch(1)).toEqual(new Set([id]))
})

test('clearing forgets taken jobs too, so that they can be made anew', async () => {
  const taken = await send(randomUUID())
  await send(randomUUID())
  await fetch(1)
  await queue().clear()
  expect(await fetch(10)).toEqual(new Set())
  await send(taken)
  expect(await fetch(10)).toEqual(new Set([taken]))
})

test('every way in which a job becomes available wakes the listener', async () => {
  let woken = 0
  const stop = await queue().onJob(() => {
    woken += 1
  })
  const id = await send(randomUUID())
  await expect.poll(() => woken).toBe(1)
  await fetch(1)
  await inTransaction((transaction) => queue().handBack(transaction, id))
  await expect.poll(() => woken).toBe(2)
  const both = [randomUUID(), randomUUID()].map((id) => ({ id, turnAt: new Date() }))
  await inTransaction((transaction) => queue().send(transaction, both))
  await expect.poll(() => woken).toBe(3)
  await stop()
})
