import { cp, mkdtemp, rm, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest'
import { modelCheck } from '../../src/commands/model/check.ts'
import { readConfig } from '../../src/config.ts'
import type { CheckpointReport } from '../../src/engine/checkpoint-report.ts'

const tiny = fileURLToPath(new URL('../../models/tiny', import.meta.url))

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'model-check-'))
})
afterAll(() => rm(folder, { recursive: true }))
afterEach(() => vi.restoreAllMocks())

interface CheckSettings {
  readonly json?: true
  readonly limitMib?: number
  readonly ATELIER_DEVICES?: string
  readonly ATELIER_PRECISION?: string
}

/** The exit status, and what is printed. */
async function check(
  checkpoint: string,
  { json, limitMib = 0, ...settings }: CheckSettings = {},
): Promise<{ readonly status: number; readonly text: string }> {
  const log = vi.spyOn(console, 'log').mockImplementation(() => undefined)
  const config = readConfig({ ATELIER_MEMORY_LIMIT_MIB: String(limitMib), ...settings })
  const status = await modelCheck(config, checkpoint, json ? { json } : {})
  return { status, text: log.mock.calls.map(([line]) => String(line)).join('\n') }
}

test('a complete checkpoint is told in a few lines, and the status is 0', async () => {
  const { status, text } = await check(tiny)
  expect(status).toBe(0)
  expect(text).toMatch(/tiny: PixArt-α, base size 512 px, version [0-9a-f]{16}\n/)
  expect(text).toMatch(/^text_encoder +0\.1 M +2 layers, width 32, 4 heads +F32 1 MiB +1 file/m)
  expect(text).toContain('\nas it is served on cpu in float32:\n')
  expect(text).toContain('memory with no limit: the text encoder stays in memory')
  expect(text).toMatch(/\ncomplete; checked in \d+ ms$/)
})

test('machines get the whole report', async () => {
  const { status, text } = await check(tiny, { json: true })
  expect(status).toBe(0)
  const report = JSON.parse(text) as CheckpointReport & { elapsedMs: number }
  expect(report.components.map(({ name }) => name)).toEqual(['transformer', 'text_encoder', 'vae'])
  expect(report.plan).toMatchObject({ fits: true, textEncoder: 'stays', wholeDecodeMaxPixels: 'Infinity' })
  expect(report.elapsedMs).toBeGreaterThan(0)
})

test('it is told as the configured device serves it', async () => {
  const onCpu = await check(tiny, { ATELIER_PRECISION: 'float16' })
  expect(onCpu.text).toContain('\nas it is served on cpu in float16:\n')
  expect(onCpu.text).toMatch(/\nvae: \d+ MiB will be converted to float16 at the first start/)
  expect(onCpu.text).not.toContain('formulas')
  const { text } = await check(tiny, { ATELIER_DEVICES: 'cuda' })
  expect(text).toContain(
    "\nas it is served on cuda in float16:\n  (reckoned with the CPU's formulas: what cuda takes was not measured)\n",
  )
})

test('what is wrong is named, and the status is 1', async () => {
  const broken = join(folder, 'broken')
  await cp(tiny, broken, { recursive: true })
  const file = join(broken, 'vae/diffusion_pytorch_model.safetensors')
  await truncate(file, 50_000)
  const { status, text } = await check(broken)
  expect(status).toBe(1)
  expect(text).toMatch(/\nwrong: .*vae\/diffusion_pytorch_model\.safetensors: tensor ".*": expected bytes/)
  expect(text).toMatch(/\n1 wrong; checked in \d+ ms$/)
})

test('a limit that the model does not fit in is status 1 as well', async () => {
  const { status, text } = await check(tiny, { limitMib: 100 })
  expect(status).toBe(1)
  expect(text).toMatch(
    /this does not fit: it needs at least \d+ MiB; what would help: .*ATELIER_MEMORY_LIMIT_MIB/,
  )
})
