/** API processes and workers are replaced one after the other under load, as a cluster does it, and nobody notices. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startServer, temporaryFolder, type Server } from '../e2e/server.ts'
import { startPostgres, type PostgresServer } from '../postgres/server.ts'
import { startBalancer, type Balancer } from './balancer.ts'

let postgres: PostgresServer

beforeAll(async () => {
  postgres = await startPostgres()
})

afterAll(() => postgres.stop())

const json = { 'content-type': 'application/json' }
const patience = { timeout: 600_000, interval: 100 }
/** Takes some seconds, so that every process that ends has work in hand. */
const picture = { prompt: 'x', size: '64x64', steps: 30 }

/** What clients do, each of them over and over. @returns what was wrong with the answer, if anything was */
const habits: Readonly<Record<string, (url: string) => Promise<string | undefined>>> = {
  async waits(url) {
    const headers = { ...json, prefer: 'wait=600' }
    const body = JSON.stringify(picture)
    const answer = await fetch(`${url}/v1/generations`, { method: 'POST', headers, body })
    const text = await answer.text()
    return answer.status === 200 && JSON.parse(text).state === 'succeeded' ? undefined : text
  },
  async 'blocks and fetches the picture'(url) {
    const body = JSON.stringify({ ...picture, user: randomUUID() })
    const answer = await fetch(`${url}/v1/images/generations`, { method: 'POST', headers: json, body })
    const text = await answer.text()
    if (!answer.ok) return text
    const content = await fetch(JSON.parse(text).data[0].url)
    return content.ok && (await content.bytes()).length > 0 ? undefined : `the picture: ${content.status}`
  },
  async listens(url) {
    const body = JSON.stringify(picture)
    const created = await fetch(`${url}/v1/generations`, { method: 'POST', headers: json, body })
    const text = await created.text()
    if (!created.ok) return text
    const events = await fetch(`${url}/v1/generations/${JSON.parse(text).id}/events`)
    const heard = await events.text()
    return heard.includes('event: succeeded') ? undefined : `the stream ended early: ${heard.slice(-200)}`
  },
  async looks(url) {
    const answer = await fetch(`${url}/v1/generations?limit=5`)
    const text = await answer.text()
    return answer.ok ? undefined : text
  },
}

test('a rolling restart of API and workers under load fails no request', async () => {
  await using folder = await temporaryFolder()
  await using balancer = await startBalancer()
  const environment = {
    ATELIER_DATABASE_URL: await postgres.createDatabase(),
    ATELIER_PUBLIC_URL: balancer.url,
    ATELIER_REQUESTS_PER_MINUTE: '0',
    ATELIER_DRAIN_DELAY: '2',
    ATELIER_DRAIN_TIMEOUT: '600',
    ATELIER_LOG_LEVEL: 'warn',
  }
  const start = (command: 'api' | 'worker') => startServer({ command, dataDir: folder.path, environment })
  const running = new Set<Server>()
  const begin = async (command: 'api' | 'worker') => {
    const server = await start(command)
    running.add(server)
    if (command === 'api') await use(server, balancer)
    return server
  }
  try {
    const first = [await begin('worker'), await begin('worker'), await begin('api'), await begin('api')]
    const over = new AbortController()
    const [answered, failed] = [new Map<string, number>(), [] as string[]]
    const load = Object.entries(habits).map(async ([habit, act]) => {
      while (!over.signal.aborted) {
        const wrong = await act(balancer.url).catch((error: unknown) => String(error))
        if (wrong === undefined) answered.set(habit, (answered.get(habit) ?? 0) + 1)
        else failed.push(`${habit}: ${wrong}`)
      }
    })
    const everybodyAnswered = async () => {
      const before = new Map(answered)
      await expect
        .poll(
          () => Object.keys(habits).every((habit) => answered.get(habit)! > (before.get(habit) ?? 0)),
          patience,
        )
        .toBe(true)
    }
    await everybodyAnswered()
    const tookMs: number[] = []
    for (const [index, old] of first.entries()) {
      await begin(index < 2 ? 'worker' : 'api')
      await everybodyAnswered()
      const sinceMs = performance.now()
      expect(await old.stop()).toBe(0)
      tookMs.push(Math.round(performance.now() - sinceMs))
      running.delete(old)
      balancer.remove(old.url)
      await everybodyAnswered()
    }
    over.abort()
    await Promise.all(load)
    console.log({ answered: Object.fromEntries(answered), failed: failed.length, tookMs })
    expect(failed).toEqual([])
  } finally {
    await Promise.all([...running].map((server) => server.kill()))
  }
})

async function use({ url }: Server, balancer: Balancer): Promise<void> {
  balancer.add(url)
  await expect.poll(() => balancer.isUsed(url), patience).toBe(true)
}
