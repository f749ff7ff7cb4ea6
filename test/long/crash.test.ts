/** kill -9 of the whole server at random moments with requests in flight: nothing accepted is lost, no file is left over. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { pino } from 'pino'
import { expect, test } from 'vitest'
import { findModels } from '../../src/commands/model-folder.ts'
import { sweepBlobs } from '../../src/generation/sweep.ts'
import { callControl } from '../../src/storage/control.ts'
import { openStorage } from '../../src/storage/storage.ts'
import { startServer, temporaryFolder } from '../e2e/server.ts'

const rounds = 20

test(`after each of ${rounds} kills every accepted request is finished with its files or queued and then finished`, async () => {
  await using folder = await temporaryFolder()
  const [{ name: model }] = await findModels(['tiny'])
  const answered: string[] = []
  let cutOff = 0
  let finished = 0
  for (let round = 0; round < rounds; round++) {
    const server = await startServer({ dataDir: folder.path })
    const post = (seed: number) =>
      fetch(`${server.url}/v1/images/generations`, {
        method: 'POST',
        // With a key, a caller that goes away, as these do when the server dies, cancels nothing.
        headers: { 'content-type': 'application/json', 'idempotency-key': `${round}-${seed}` },
        body: JSON.stringify({
          model,
          prompt: `round ${round}`,
          size: '256x256',
          steps: 1 + (seed % 8),
          n: 1 + (seed % 2),
          seed,
        }),
      })
    const requests = Array.from({ length: 12 }, (_, seed) =>
      post(seed).then(
        async (response) => {
          const body = await response.json().catch(() => undefined)
          return body === undefined
            ? 'cut off'
            : { status: response.status, id: (body as { id?: string }).id }
        },
        () => 'cut off' as const,
      ),
    )
    // Random on purpose: any moment of the work, but before its end.
    const atMs = Math.random() * 3_000
    const enough = requests.slice(0, 1 + Math.floor(Math.random() * (requests.length - 1)))
    await Promise.race([new Promise((resolve) => setTimeout(resolve, atMs)), Promise.all(enough)])
    await server.kill()
    const answers = await Promise.all(requests)
    const whole = answers.filter((answer) => answer !== 'cut off')
    expect(whole.filter(({ status }) => status !== 200)).toEqual([])
    answered.push(...whole.map(({ id }) => id ?? 'an answer without an id'))
    cutOff += answers.length - whole.length
  }
  expect(cutOff).toBeGreaterThan(rounds)

  // One more start brings everything to its end.
  const last = await startServer({ dataDir: folder.path })
  const busy = async () => {
    const answer = await callControl(folder.path, 'status', {})
    if (answer.state === 'no_server') throw new Error('the server does not answer')
    const { queued, running } = answer.result as { queued: number; running: number }
    return queued + running
  }
  await expect.poll(busy, { timeout: 600_000, interval: 200 }).toBe(0)
  await last.stop()

  const storage = await openStorage({ dataDir: folder.path, onError: (error) => expect.fail(error.message) })
  try {
    const { prisma } = storage.database
    const rows = await prisma.generation.findMany({ include: { images: true } })
    for (const row of rows) {
      expect({ id: row.id, state: row.state, images: row.images.length }).toEqual({
        id: row.id,
        state: 'succeeded',
        images: row.count,
      })
      finished += 1
    }
    const ids = new Set(rows.map(({ id }) => id))
    expect(answered.filter((id) => !ids.has(id))).toEqual([])
    const known = rows.flatMap(({ images }) => images.map(({ blobKey }) => blobKey)).sort()
    await sweepBlobs(storage, { log: pino({ level: 'silent' }), safetyAgeMs: 0 })
    const files = await readdir(join(folder.path, 'blobs'), { recursive: true, withFileTypes: true })
    expect(files.filter((file) => file.isFile()).length).toBe(known.length)
    for (const key of known)
      await expect(Array.fromAsync(await storage.blobs.open(key))).resolves.not.toHaveLength(0)
  } finally {
    await storage.close()
  }
  expect(finished).toBeGreaterThan(rounds)
})
