/** Checkpoints from a real server with the hub's routes: whole and verified, or not there. */
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test, vi } from 'vitest'
import { pull } from '../../src/hub/pull.ts'
import { inspectCheckpoint } from '../../src/weights/checkpoint.ts'
import { findModels } from '../../src/commands/model-folder.ts'
import { temporaryFolder } from '../e2e/server.ts'
import { startHub, type HubOptions, type HubServer } from './hub-server.ts'

const tiny = fileURLToPath(new URL('../../models/tiny', import.meta.url))
const repository = 'PixArt-alpha/tiny'
const commit = 'c0ffee'.padEnd(40, '0')
const weights = 'transformer/diffusion_pytorch_model.safetensors'

async function readTiny(): Promise<Map<string, Buffer>> {
  const entries = await readdir(tiny, { recursive: true, withFileTypes: true })
  const paths = entries.filter((each) => each.isFile()).map(({ parentPath, name }) => join(parentPath, name))
  return new Map(
    await Promise.all(
      paths.map(async (path) => [path.slice(tiny.length + 1), await readFile(path)] as const),
    ),
  )
}

const files = await readTiny()
const unwanted = new Map(
  ['transformer/diffusion_pytorch_model.fp16.safetensors', 'vae/model.bin', 'x.ckpt', '../escape.json'].map(
    (path) => [path, Buffer.from('not for us')] as const,
  ),
)

/** @returns whether so many bytes of a file lie somewhere below a folder */
const arrivedIn = (folder: string) => (path: string, bytes: number) =>
  vi.waitFor(
    async () => {
      const entries = await readdir(folder, { recursive: true, withFileTypes: true })
      const parts = entries.filter(({ name }) => name.startsWith(`${basename(path)}.`))
      const sizes = await Promise.all(parts.map(({ parentPath, name }) => stat(join(parentPath, name))))
      if (!sizes.some(({ size }) => size >= bytes)) throw new Error('not yet')
    },
    { timeout: 30_000, interval: 10 },
  )

const startTiny = (options: Partial<HubOptions> = {}): Promise<HubServer> =>
  startHub({ repository, commit, files: new Map([...files, ...unwanted]), ...options })
const from = ({ url }: HubServer, accessToken?: string) => ({
  name: repository,
  revision: 'main',
  endpoint: url,
  accessToken,
})
const brought = (path: string, { asked }: HubServer) => asked.filter((each) => each.startsWith(`${path} `))

test('what is read of a repository comes, byte for byte, and can be served; nothing else does', async () => {
  await using place = await temporaryFolder()
  await using hub = await startTiny({ token: 'hf_secret' })
  const folder = join(place.path, 'models', 'tiny')
  const heard = new Map<string, number>()
  const pulled = await pull(from(hub, 'hf_secret'), folder, {
    onBytes: (path, bytes) => heard.set(path, (heard.get(path) ?? 0) + bytes),
  })
  expect(pulled.commit).toBe(commit)
  for (const { path } of pulled.files) expect(await readFile(join(folder, path))).toEqual(files.get(path))
  expect(Object.fromEntries(heard)).toEqual(
    Object.fromEntries(pulled.files.map(({ path, sizeBytes }) => [path, sizeBytes])),
  )
  expect((await inspectCheckpoint(folder)).problems).toEqual([])
  const asked = new Set(hub.asked.map((each) => each.split(' ')[0]))
  for (const path of unwanted.keys()) expect(asked).not.toContain(path)
  expect(hub.leaked).toEqual([])
  expect(await readdir(join(place.path, 'models'))).toEqual(['tiny'])
  await expect(pull(from(hub, 'hf_secret'), folder)).rejects.toThrow('expected nothing there')
})

test('a connection that is cut again and again is taken up where it was', async () => {
  await using place = await temporaryFolder()
  const cut = 100_000
  await using hub = await startTiny({
    haveArrived: arrivedIn(place.path),
    cutAfter: (path, request) => (path === weights && request <= 2 ? cut : undefined),
  })
  await pull(from(hub), join(place.path, 'tiny'), { retryMs: 1 })
  const [first, ...later] = brought(weights, hub).map((each) => each.split(' ')[1])
  expect(first).toBe('all')
  expect(later).toEqual([`bytes=${cut}-`, `bytes=${2 * cut}-`])
  expect(await readFile(join(place.path, 'tiny', weights))).toEqual(files.get(weights))
})

test('what fails leaves nothing that could be taken for a model, and the next pull goes on with what came', async () => {
  await using place = await temporaryFolder()
  const folder = join(place.path, 'tiny')
  {
    await using hub = await startTiny({
      haveArrived: arrivedIn(place.path),
      cutAfter: (path, request) => (path === weights ? (request === 1 ? 100_000 : 0) : undefined),
    })
    const message =
      /^transformer\/diffusion_pytorch_model\.safetensors: expected \d+ bytes, got \d+: .*goes on/
    await expect(pull(from(hub), folder, { retryMs: 1 })).rejects.toThrow(message)
  }
  expect(existsSync(folder)).toBe(false)
  const found = await findModels([place.path])
  expect(found.every((model) => !existsSync(join(model.folder, 'model_index.json')))).toBe(true)

  await using hub = await startTiny()
  await pull(from(hub), folder)
  expect(brought(weights, hub)[0]).toBe(`${weights} bytes=100000-`)
  expect(brought('model_index.json', hub)).toEqual([])
  expect((await inspectCheckpoint(folder)).problems).toEqual([])
})

test('a server without ranges is read from the beginning', async () => {
  await using place = await temporaryFolder()
  await using hub = await startTiny({
    knowsRanges: false,
    haveArrived: arrivedIn(place.path),
    cutAfter: (path, request) => (path === weights && request === 1 ? 100_000 : undefined),
  })
  await pull(from(hub), join(place.path, 'tiny'), { retryMs: 1 })
  expect(await readFile(join(place.path, 'tiny', weights))).toEqual(files.get(weights))
})

const flipped = (bytes: Buffer): Buffer => {
  const other = Buffer.from(bytes)
  other[other.length - 1]! ^= 1
  return other
}

test.each([weights, 'scheduler/scheduler_config.json'])(
  '%s with a wrong byte is thrown away',
  async (wrong) => {
    await using place = await temporaryFolder()
    const folder = join(place.path, 'tiny')
    {
      await using hub = await startTiny({
        replace: (path, bytes) => (path === wrong ? flipped(bytes) : bytes),
      })
      await expect(pull(from(hub), folder)).rejects.toThrow(
        /^\S+: expected the (?:sha256|git blob) checksum \w+, got \w+; it was thrown away$/,
      )
    }
    expect(existsSync(folder)).toBe(false)
    await using hub = await startTiny()
    await pull(from(hub), folder)
    expect(brought(wrong, hub)).toEqual([`${wrong} all`])
  },
)

test('a beginning that is not what the rest belongs to is fetched anew', async () => {
  await using place = await temporaryFolder()
  const folder = join(place.path, 'tiny')
  {
    await using hub = await startTiny({
      replace: (path, bytes) => (path === weights ? Buffer.alloc(bytes.length) : bytes),
      haveArrived: arrivedIn(place.path),
      cutAfter: (path, request) => (path === weights ? (request === 1 ? 100_000 : 0) : undefined),
    })
    await expect(pull(from(hub), folder, { retryMs: 1 })).rejects.toThrow('expected')
  }
  await using hub = await startTiny()
  await pull(from(hub), folder)
  expect(brought(weights, hub)).toHaveLength(2)
  expect(await readFile(join(folder, weights))).toEqual(files.get(weights))
})

test('who is not let in, what is not there and what is no checkpoint of ours are told in one line', async () => {
  await using place = await temporaryFolder()
  const folder = join(place.path, 'tiny')
  await using gated = await startTiny({ token: 'hf_secret' })
  await expect(pull(from(gated), folder)).rejects.toThrow(/private, gated or not there \(401\); set HF_TOKEN/)
  await expect(pull(from(gated, 'hf_other'), folder)).rejects.toThrow(/the token of HF_TOKEN may not/)
  await using hub = await startTiny()
  await expect(pull({ ...from(hub), name: 'PixArt-alpha/other' }, folder)).rejects.toThrow(
    /there is none \(404\)/,
  )
  await expect(pull({ ...from(hub), revision: 'v9' }, folder)).rejects.toThrow(/a revision v9/)
  await expect(pull({ ...from(hub), endpoint: 'http://127.0.0.1:1' }, folder)).rejects.toThrow(
    /hub that answers/,
  )
  const index = Buffer.from('{"_class_name": "StableDiffusionPipeline"}')
  await using other = await startTiny({ files: new Map([...files, ['model_index.json', index]]) })
  await expect(pull(from(other), folder)).rejects.toThrow(
    /got "StableDiffusionPipeline"; nothing more was fetched/,
  )
  expect(brought(weights, other)).toEqual([])
  await using empty = await startTiny({ files: new Map([['README.md', index]]) })
  await expect(pull(from(empty), folder)).rejects.toThrow('model_index.json is missing')
  await writeFile(join(place.path, 'file'), '')
  await expect(pull(from(hub), join(place.path, 'file'))).rejects.toThrow('expected a folder to make')
  await mkdir(folder)
  await pull(from(hub), folder)
})
