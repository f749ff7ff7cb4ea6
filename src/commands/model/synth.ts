/** `atelier model synth DIR`: a checkpoint of random weights in the shapes of a published one. */
import { fileURLToPath } from 'node:url'
import { preset, type PresetName, type PresetOptions } from '../../models/presets.ts'
import { writeSyntheticCheckpoint } from '../../models/synthetic-checkpoint.ts'
import type { FloatDtype } from '../../weights/dtypes.ts'
import { mebibytes } from '../../weights/units.ts'
import { untilInterrupted } from './until-interrupted.ts'

const dtypes = { f32: 'F32', f16: 'F16', bf16: 'BF16' } as const satisfies Record<string, FloatDtype>

export interface SynthOptions extends PresetOptions {
  readonly preset: PresetName
  readonly dtype: keyof typeof dtypes
  readonly seed: number
}

const tokenizer = fileURLToPath(new URL('../../../models/tiny/tokenizer', import.meta.url))

/** @throws {WeightsError} when the folder is there and not empty, or the disk has too little space */
export async function modelSynth(
  folder: string,
  { preset: name, dtype, seed, depth, textDepth }: SynthOptions,
): Promise<void> {
  const configs = preset(name, { depth, textDepth })
  const checkpoint = { ...configs, tokenizer, seed, dtype: dtypes[dtype] }
  const startedMs = performance.now()
  let totalBytes = 0
  const onFile = (file: { readonly name: string; readonly sizeBytes: number }): void => {
    totalBytes += file.sizeBytes
    console.log(`${file.name}  ${mebibytes(file.sizeBytes)}`)
  }
  await untilInterrupted((signal) => writeSyntheticCheckpoint(folder, checkpoint, { onFile, signal }))
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1)
  console.log(`${folder}: ${name} in ${dtype}, ${mebibytes(totalBytes)} of weights written in ${seconds} s`)
}
