/** A trained model as it is shipped: half-precision weights, the card with the data's licences, and what is kept of the training. */
import { existsSync } from 'node:fs'
import { copyFile, cp, mkdir, rename, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { openCheckpoint, type Component } from '../../src/weights/checkpoint.ts'
import { linkFile, linkFolder } from '../../src/weights/file-links.ts'
import { fromFloat32 } from '../../src/weights/floats.ts'
import { writeFolder, writeJson } from '../../src/weights/folder-writer.ts'
import { readFloats } from '../../src/weights/safetensors.ts'
import { writeSafetensors, type TensorSource } from '../../src/weights/safetensors-writer.ts'
import { writeTrainingRecord } from './training-record.ts'

export interface Packaging {
  /**
   * Folders of jobs as `atelier finetune` leaves them, each begun with the result of the one before. The last one's result is
   * packaged, and all are recorded.
   */
  readonly jobs: readonly [string, ...string[]]
  /** Replaced, but for the card and the suite. */
  readonly out: string
}

const keptParts = ['README.md', 'evaluation']

export async function packageModel({ jobs, out }: Packaging): Promise<void> {
  const checkpoint = await openCheckpoint(join(jobs.at(-1)!, 'model'))
  const packaged = `${resolve(out)}.packaged`
  await rm(packaged, { recursive: true, force: true })
  await writeFolder(packaged, async (folder) => {
    for (const component of [checkpoint.transformer, checkpoint.textEncoder, checkpoint.vae])
      await writeHalves(component, join(folder, component.name))
    await linkFolder(checkpoint.scheduler.folder, join(folder, 'scheduler'))
    await linkFolder(checkpoint.tokenizer.folder, join(folder, 'tokenizer'))
    await linkFile(join(checkpoint.folder, 'model_index.json'), join(folder, 'model_index.json'))
    await copyFile(fileURLToPath(new URL('LICENCES.md', import.meta.url)), join(folder, 'LICENCES.md'))
    await writeTrainingRecord(jobs, join(folder, 'training'))
    for (const part of keptParts)
      if (existsSync(join(out, part))) await cp(join(out, part), join(folder, part), { recursive: true })
  })
  await rm(out, { recursive: true, force: true })
  await rename(packaged, out)
}

async function writeHalves({ name, config, tensors }: Component, folder: string): Promise<void> {
  await mkdir(folder)
  const halves = new Map<string, TensorSource>()
  for (const [key, location] of tensors) {
    const data = fromFloat32('F16', await readFloats(location))
    halves.set(key, { dtype: 'F16', shape: location.shape, data })
  }
  const isText = name === 'text_encoder'
  const file = isText ? 'model.safetensors' : 'diffusion_pytorch_model.safetensors'
  await writeSafetensors(join(folder, file), halves, new Map([['format', 'pt']]))
  await writeJson(join(folder, 'config.json'), isText ? { ...config, torch_dtype: 'float16' } : config)
}
