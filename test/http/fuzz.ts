/** A service with everything in it, and so many hostile requests: none gets a 5xx, none keeps it from going on. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { pino } from 'pino'
import { expect } from 'vitest'
import { defaultProject } from '../../src/access/project.ts'
import { scopes } from '../../src/access/scopes.ts'
import { startFineTuningService } from '../../src/fine-tuning/service.ts'
import { startWebhookService } from '../../src/webhooks/service.ts'
import { practicePool } from '../fine-tuning/practice-pool.ts'
import { heapUsed } from './heap.ts'
import { hostileRequest, sendHostile } from './hostile.ts'
import { send } from './requests.ts'
import { buildTestApp, listen, silent, startTestService, testConfig } from './server.ts'

/** Of a request that made the service fail. */
const shown = 1_000

/** @returns how often each status came, and the memory after each tenth of the requests, in MiB */
export async function fuzz(
  requests: number,
  seed: number,
): Promise<{ statuses: Readonly<Record<string, number>>; memoryMib: readonly number[] }> {
  const service = await startTestService()
  const config = testConfig({ ATELIER_REQUESTS_PER_MINUTE: '0', ATELIER_REFUSALS_PER_MINUTE: '0' })
  const { access, datasets, storage } = service
  const folder = await mkdtemp(join(tmpdir(), 'atelier-fuzz-'))
  const fineTuning = await startFineTuningService({
    storage,
    pool: practicePool(['paint']),
    datasets,
    log: silent,
    dataDir: folder,
    configured: [{ name: 'paint', folder }],
    rates: { watts: 100, gramsPerKwh: 480, costPerDeviceHour: undefined },
    gpus: [],
    sources: undefined,
    maxMicroStepMs: 1e6,
  })
  const webhooks = await startWebhookService({ storage, log: silent, allowed: [] })
  const causes: string[] = []
  const logger = pino({ level: 'error' }, { write: (line) => void causes.push(line) })
  const app = await buildTestApp(service.generation, {
    access,
    datasets,
    fineTuning,
    webhooks,
    config,
    logger,
  })
  try {
    const { text } = await access.keys.create({ project: defaultProject, name: 'fuzz', scopes })
    const authorization = `Bearer ${text}`
    const address = await listen(app)
    const hostile = fc.sample(hostileRequest(new URL(address).host, authorization), {
      numRuns: requests,
      seed,
    })
    const statuses: Record<string, number> = {}
    const memoryMib: number[] = []
    const failures: { status: number; operation: string; sent: string }[] = []
    const together = 8
    for (let start = 0; start < requests; start += together) {
      await Promise.all(
        hostile.slice(start, start + together).map(async (request) => {
          const { status, text: said } = await sendHostile(address, request)
          const kind = status ?? (request.leavesAfter === undefined ? 'hung up' : 'left')
          statuses[kind] = (statuses[kind] ?? 0) + 1
          const sent = Buffer.concat(request.pieces).toString('latin1')
          if (status !== undefined && status >= 500)
            failures.push({ status, operation: request.operationId, sent: sent.slice(0, shown) })
          expect(said).not.toMatch(/node_modules|\n {4}at /)
        }),
      )
      if (Math.floor(start / (requests / 10)) >= memoryMib.length) {
        memoryMib.push(Math.round(heapUsed() / 2 ** 20))
      }
    }
    expect({ failures, causes: causes.slice(0, 5) }).toEqual({ failures: [], causes: [] })
    const headers = { authorization, 'content-type': 'application/json' }
    const body = JSON.stringify({ prompt: 'still there', steps: 1 })
    const answer = await send(address, { method: 'POST', path: '/v1/images/generations', headers, body })
    expect(answer.status).toBe(200)
    return { statuses, memoryMib }
  } finally {
    await app.close()
    await webhooks.close()
    await fineTuning.close()
    await service.close()
    await rm(folder, { recursive: true })
  }
}
