/**
 * A checkpoint of the published size, made up, from the command line to the picture: 0.6 G parameters of transformer in float32,
 * 4.7 G of text encoder in 4 bits. Takes 26 GB of disk for a while, some minutes, and Linux.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile, rm, stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { expect, test } from 'vitest'
import { childrenOf, startServer, temporaryFolder, type Server } from '../e2e/server.ts'

const gigabyte = 1e9
const entry = fileURLToPath(new URL('../../bin/atelier.mjs', import.meta.url))

async function atelier(...words: readonly string[]): Promise<void> {
  const child = spawn(process.execPath, [entry, ...words], { stdio: 'inherit' })
  const [code] = (await once(child, 'exit')) as [number | null]
  if (code !== 0) throw new Error(`atelier ${words.join(' ')} ended with ${code}`)
}

async function sizeOf(folder: string): Promise<number> {
  const names = await readdir(folder)
  const sizes = await Promise.all(names.map(async (name) => (await stat(join(folder, name))).size))
  return sizes.reduce((sum, size) => sum + size, 0)
}

/** The most that each of the server's processes ever held, added up, in bytes. */
async function peakBytes({ pid }: Server): Promise<number> {
  const pids = [pid, ...(await childrenOf(pid))]
  const peaks = await Promise.all(
    pids.map(async (each) => {
      const status = await readFile(`/proc/${each}/status`, 'utf8')
      return 1024 * Number(/VmHWM:\s+(\d+)/.exec(status)?.[1])
    }),
  )
  return peaks.reduce((sum, peak) => sum + peak, 0)
}

test('a picture of 512 pixels in 4 steps, within 8 GB and 20 seconds of loading', async (context) => {
  await using folder = await temporaryFolder()
  const { bavail, bsize } = await statfs(folder.path)
  if (bavail * bsize < 30 * gigabyte) context.skip('it takes 26 GB of disk')
  const [made, model] = [join(folder.path, 'made'), join(folder.path, 'model')]
  await atelier('model', 'synth', '--preset', 'pixart-xl-2-512', made, '--dtype', 'f32')
  await atelier('model', 'quantize', made, model, '--text-encoder', 'int4')
  await rm(made, { recursive: true })
  expect(await sizeOf(join(model, 'text_encoder'))).toBeLessThanOrEqual(3.2 * gigabyte)
  await atelier('model', 'check', model)

  const dataDir = join(folder.path, 'data')
  const environment = { ATELIER_MODEL: model }
  const first = await startServer({ dataDir, environment }) // learns what the model costs, and warms the page cache
  await first.stop()
  const startedMs = performance.now()
  const whole = await startServer({ dataDir, environment })
  const readySeconds = (performance.now() - startedMs) / 1000
  await whole.stop()

  const limited = { ...environment, ATELIER_MEMORY_LIMIT_MIB: '6500' }
  const server = await startServer({ dataDir, environment: limited })
  try {
    const postedMs = performance.now()
    const response = await fetch(`${server.url}/v1/images/generations`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: 'a cactus', size: '512x512', steps: 4, response_format: 'b64_json' }),
    })
    expect(response.status).toBe(200)
    const seconds = (performance.now() - postedMs) / 1000
    const { data } = (await response.json()) as { data: readonly { readonly b64_json: string }[] }
    const { width, height } = await sharp(Buffer.from(data[0]!.b64_json, 'base64')).metadata()
    expect({ width, height }).toEqual({ width: 512, height: 512 })
    const peak = await peakBytes(server)
    console.log(
      `all loaded in ${readySeconds.toFixed(1)} s; a picture in ${seconds.toFixed(1)} s, ${(peak / gigabyte).toFixed(2)} GB at the peak`,
    )
    console.log(server.output.filter((line) => line.includes('memory with')).join('\n'))
    expect(peak).toBeLessThanOrEqual(8 * gigabyte)
    expect(readySeconds).toBeLessThanOrEqual(20)
  } finally {
    await server.stop()
  }
})
