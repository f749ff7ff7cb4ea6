/** What becomes of the files that a quantisation takes over, on file systems that link and on those that do not. */
import * as files from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, test, vi } from 'vitest'
import { writeQuantisedCheckpoint } from '../../src/models/quantised-checkpoint.ts'
import { openCheckpoint } from '../../src/weights/checkpoint.ts'
import { temporaryFolder } from '../weights/folder.ts'

vi.mock('node:fs/promises', { spy: true })
afterEach(() => vi.resetAllMocks())

const golden = fileURLToPath(new URL('../fixtures/golden/tiny-512/checkpoint', import.meta.url))
const plan = { text_encoder: { bits: 4, blockSize: 32 } } as const

const noLinks = () =>
  vi
    .mocked(files.link)
    .mockRejectedValue(Object.assign(new Error('EXDEV: cross-device link'), { code: 'EXDEV' }))

/** As if the disk had this much left. */
const freeBytes = (bytes: number) =>
  vi.mocked(files.statfs).mockResolvedValue({ bavail: bytes, bsize: 1 } as unknown as never)

test('what has to be copied counts into what the disk must have', async () => {
  const folder = await temporaryFolder()
  const checkpoint = await openCheckpoint(golden)
  const { components } = await writeQuantisedCheckpoint(checkpoint, join(folder, 'linked'), plan)
  const weights = [checkpoint.transformer, checkpoint.vae].flatMap(({ tensors }) => [...tensors.values()])
  const linkedBytes = weights.reduce((sum, { length }) => sum + length, 0)
  const quantisedBytes = components.text_encoder!.sizeBytes

  freeBytes(quantisedBytes + linkedBytes)
  await writeQuantisedCheckpoint(checkpoint, join(folder, 'linked again'), plan)
  noLinks()
  await expect(writeQuantisedCheckpoint(checkpoint, join(folder, 'copied'), plan)).rejects.toThrow(
    /copied: expected a disk with \d+ MiB free/,
  )
  expect((await files.readdir(folder)).sort()).toEqual(['linked', 'linked again'])
})

test('weights that cannot be linked are copied', async () => {
  const out = join(await temporaryFolder(), 'out')
  noLinks()
  const checkpoint = await openCheckpoint(golden)
  await writeQuantisedCheckpoint(checkpoint, out, plan)
  const name = 'vae/diffusion_pytorch_model.safetensors'
  const [copy, original] = [join(out, name), join(golden, name)]
  expect((await files.readFile(copy)).equals(await files.readFile(original))).toBe(true)
  expect((await files.stat(copy)).ino).not.toBe((await files.stat(original)).ino)
})
