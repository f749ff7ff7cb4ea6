/** A model's components as a run has them: the base's, until a stage has trained them. */
import { basename, join } from 'node:path'
import { openCheckpoint, openComponent, type Checkpoint, type Component } from '../weights/checkpoint.ts'
import { fingerprint, fingerprintWeights } from '../weights/fingerprint.ts'
import { isFolder, listFolder } from '../weights/files.ts'
import type { JsonObject } from '../weights/json.ts'
import { openSafetensors, type TensorLocation } from '../weights/safetensors.ts'
import {
  averagedTensors,
  checkpointsFolder,
  componentNames,
  type ComponentName,
  type TrainedComponents,
} from './checkpoint.ts'

export interface ModelParts {
  readonly base: Checkpoint
  readonly components: Readonly<Record<ComponentName, Component>>
  /** An adapter that an earlier stage trained, by its keys; its base is `components.transformer`. */
  readonly adapter: ReadonlyMap<string, TensorLocation> | undefined
  /** What of it is not the base's. */
  readonly trained: TrainedComponents
}

/** @throws {WeightsError | TrainingError} */
export async function openModelParts(
  base: string,
  jobFolder: string,
  trained: TrainedComponents,
): Promise<ModelParts> {
  const checkpoint = await openCheckpoint(base)
  const components: Record<ComponentName, Component> = {
    transformer: checkpoint.transformer,
    text_encoder: checkpoint.textEncoder,
    vae: checkpoint.vae,
  }
  let adapter: ModelParts['adapter']
  for (const name of componentNames) {
    const now = trained[name]
    if (now === undefined) continue
    const tensors = await averagedTensors(jobFolder, now.checkpoint, name)
    if (now.kind === 'lora') adapter = tensors
    else components[name] = await trainedComponent(jobFolder, name, { ...now, tensors })
  }
  return { base: checkpoint, components, adapter, trained }
}

async function trainedComponent(
  jobFolder: string,
  name: ComponentName,
  {
    config,
    checkpoint,
    tensors,
  }: {
    readonly config: Readonly<Record<string, unknown>>
    readonly checkpoint: string
    readonly tensors: ReadonlyMap<string, TensorLocation>
  },
): Promise<Component> {
  const folder = join(checkpointsFolder(jobFolder), checkpoint)
  const [{ file } = { file: '' }] = tensors.values()
  const weights = await fingerprintWeights([await openSafetensors(file)])
  return {
    name,
    folder,
    config: config as JsonObject,
    configFile: join(folder, 'state.json'),
    tensors,
    fingerprint: fingerprint([name, JSON.stringify(config), weights]),
  }
}

/** The transformer of a folder in the diffusers layout, or the folder that it is itself. */
export async function openDitFolder(folder: string): Promise<Component> {
  const within = join(folder, 'transformer')
  const isPipeline =
    basename(folder) !== 'transformer' &&
    (await listFolder(folder)).includes('transformer') &&
    (await isFolder(within))
  return openComponent(isPipeline ? within : folder)
}
