/** Property: however many processes share a subject, no more than its limit is granted in a window, and hardly less. */
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { openRateWindows, type RateWindows } from '../../src/access/rate-windows.ts'
import { openEmbeddedDatabase, type Database } from '../../src/storage/database.ts'
import { preparedFolder } from '../storage/prepared-folder.ts'

let database: Database
const opened: RateWindows[] = []

beforeAll(async () => {
  database = await openEmbeddedDatabase(await preparedFolder())
})
afterEach(() => {
  for (const windows of opened.splice(0)) windows.close()
})
afterAll(() => database.close())

const replicas = (count: number): RateWindows[] => {
  const made = Array.from({ length: count }, () => openRateWindows(database, pino({ level: 'silent' })))
  opened.push(...made)
  return made
}
/** As after so long. */
const age = async (subject: string, ms: number) =>
  database.prisma.$executeRaw`
    UPDATE "RateWindow" SET "startedAt" = "startedAt" - ${`${ms} milliseconds`}::interval WHERE "subject" = ${subject}`

test('1,000 requests at once over three processes: 100 are granted', async () => {
  const three = replicas(3)
  const answers = await Promise.all(
    Array.from({ length: 1000 }, (_, index) => three[index % 3]!.take('at once', 100)),
  )
  const granted = answers.filter((answer) => answer.granted).length
  expect(granted).toBeLessThanOrEqual(100)
  expect(granted).toBeGreaterThanOrEqual(95)
  const refused = answers.find((answer) => !answer.granted)
  expect(refused?.remaining).toBe(0)
  expect(refused?.resetMs).toBeGreaterThan(50_000)
  expect(refused?.resetMs).toBeLessThanOrEqual(60_000)
  expect(three.every((one) => one.isSpent('at once'))).toBe(true)
})

test('one after the other, unevenly over three processes: at least 95 of 100 are granted', async () => {
  const three = replicas(3)
  let granted = 0
  for (let index = 0; index < 200; index++) {
    const one = three[index % 10 === 0 ? 0 : index % 10 === 1 ? 1 : 2]!
    if ((await one.take('uneven', 100)).granted) granted += 1
  }
  expect(granted).toBeLessThanOrEqual(100)
  expect(granted).toBeGreaterThanOrEqual(95)
})

test('most requests cost no write', async () => {
  const [one] = replicas(1)
  let writes = 0
  const counting = openRateWindows(
    {
      prisma: new Proxy(database.prisma, {
        get: (target, name) => {
          if (name === '$queryRaw') writes += 1
          return Reflect.get(target, name) as unknown
        },
      }),
    },
    pino({ level: 'silent' }),
  )
  opened.push(counting)
  for (let index = 0; index < 400; index++) expect((await counting.take('cheap', 400)).granted).toBe(true)
  expect(writes).toBe(40)
  expect((await one!.take('cheap', 400)).granted).toBe(false)
})

test('a window begins with its first request, and the next one with the first after its end', async () => {
  const [first] = replicas(1)
  for (const _ of [1, 2]) expect((await first!.take('turns', 2)).granted).toBe(true)
  await age('turns', 59_000)
  const [second] = replicas(1)
  const late = await second!.take('turns', 2)
  expect(late.granted).toBe(false)
  expect(late.resetMs).toBeLessThanOrEqual(1000)
  await age('turns', 1100)
  const [third] = replicas(1)
  const fresh = await third!.take('turns', 2)
  expect(fresh).toMatchObject({ granted: true, remaining: 1 })
  expect(fresh.resetMs).toBeGreaterThan(55_000)
})

test('subjects are nothing to each other', async () => {
  const [one] = replicas(1)
  expect((await one!.take('a', 1)).granted).toBe(true)
  expect((await one!.take('a', 1)).granted).toBe(false)
  expect((await one!.take('b', 1)).granted).toBe(true)
})
