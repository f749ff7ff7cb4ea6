import { writeFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test, vi } from 'vitest'
import { Model, type ModelOptions } from '../../src/engine/model.ts'
import { writeSyntheticCheckpoint } from '../../src/models/synthetic-checkpoint.ts'
import { tensorsFor } from '../../src/weights/cast.ts'
import { smallCheckpoint } from '../bench/small-checkpoint.ts'
import { temporaryFolder } from '../weights/folder.ts'

vi.mock('../../src/weights/cast.ts', { spy: true })

const golden = fileURLToPath(new URL('../fixtures/golden/tiny-512/checkpoint', import.meta.url))

const options = (cacheDir: string): ModelOptions => ({
  provider: 'cpu',
  threads: 2,
  cacheDir,
  lowering: 'serve',
  onNote: () => undefined,
})

test('models that do not fit each other are not opened', async () => {
  const folder = await temporaryFolder()
  const transformer = { ...smallCheckpoint.transformer, caption_channels: 64 }
  await writeSyntheticCheckpoint(join(folder, 'strangers'), { ...smallCheckpoint, transformer })
  await expect(Model.open('strangers', join(folder, 'strangers'), options(folder))).rejects.toThrow(
    "transformer config, caption_channels: expected 32, which is the text encoder's d_model, got 64",
  )
})

test('an encoder of pictures that could not be opened is tried again, and does not keep the model from being unloaded', async () => {
  const cacheDir = join(await temporaryFolder(), 'cache')
  await writeFile(cacheDir, 'no folder')
  const model = await Model.open('tiny', golden, { ...options(cacheDir), precision: 'float16' })
  const size = { batch: 1, height: 4, width: 4 }
  const encode = () => model.encodeImage(new Float32Array(3 * (4 * model.latentScale) ** 2), size)
  const failing = encode()
  await Promise.all([expect(failing).rejects.toThrow('a folder for converted weights'), model.unload()])
  await rm(cacheDir)
  expect((await encode()).mean).toHaveLength(model.vae.latentChannels * 4 * 4)
  await model.unload()
})

test('a decode in strips asks for its weights once', async () => {
  const model = await Model.open('tiny', golden, options(await temporaryFolder()))
  await model.load()
  Object.assign(model, { plan: { ...model.plan, wholeDecodeMaxPixels: 0, stripBytes: 200_000 } })
  vi.mocked(tensorsFor).mockClear()
  for (let i = 0; i < 2; i++)
    await model.decode(new Float32Array(model.vae.latentChannels * 8 * 8), { batch: 1, height: 8, width: 8 })
  expect(tensorsFor).toHaveBeenCalledTimes(1)
  await model.unload()
})
