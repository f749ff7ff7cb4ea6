/** A service that was told to end serves on until it is noticed, and ends at once when it is told again. */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { startServer, temporaryFolder } from './server.ts'

test('from the first signal on it is not ready and still serves; a second signal ends it at once', async () => {
  await using folder = await temporaryFolder()
  const server = await startServer({ dataDir: folder.path, environment: { ATELIER_DRAIN_DELAY: '60' } })
  try {
    process.kill(server.pid, 'SIGTERM')
    await expect.poll(async () => (await fetch(`${server.url}/readyz`)).status, { timeout: 10_000 }).toBe(503)
    const made = await fetch(`${server.url}/v1/images/generations`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: 'a red apple', steps: 1 }),
    })
    expect(made.status).toBe(200)

    await sleep(1_100) // one that comes sooner is the first, sent twice
    const toldAtMs = performance.now()
    process.kill(server.pid, 'SIGTERM')
    expect(await server.ended()).toBe(130)
    expect(performance.now() - toldAtMs).toBeLessThan(10_000)
  } finally {
    await server.kill()
  }
})
