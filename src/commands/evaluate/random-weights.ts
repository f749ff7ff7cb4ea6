/** The same architecture before anything is learned: what its pictures get is the floor of an evaluation. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { writeSyntheticCheckpoint } from '../../models/synthetic-checkpoint.ts'
import { openCheckpoint } from '../../weights/checkpoint.ts'
import type { ModelFolder } from '../model-folder.ts'

export interface RandomWeights extends ModelFolder {
  remove(): Promise<void>
}

/** @param parent where there is room for as many float32 weights as the model has */
export async function withRandomWeights(folder: string, parent: string): Promise<RandomWeights> {
  const { transformer, textEncoder, vae, tokenizer } = await openCheckpoint(folder)
  await mkdir(parent, { recursive: true })
  const made = await mkdtemp(join(parent, 'random-weights-'))
  const remove = () => rm(made, { recursive: true, force: true })
  try {
    await writeSyntheticCheckpoint(made, {
      transformer: transformer.config,
      textEncoder: textEncoder.config,
      vae: vae.config,
      tokenizer: tokenizer.folder,
      seed: 1,
    })
  } catch (error) {
    await remove()
    throw error
  }
  return { name: 'random-weights', folder: made, remove }
}
