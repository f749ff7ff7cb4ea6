/** What a job has made so far, for others: a folder in the diffusers layout, or an adapter's files. */
import { basename } from 'node:path'
import { componentNames, readCheckpointState, type ComponentName } from './checkpoint.ts'
import { TrainingError } from './errors.ts'
import { exportAdapter, exportModel, type ComponentChange } from './export-model.ts'
import type { TrainingUnit } from './host.ts'
import type { TrainingJob } from './job.ts'
import { openModelParts } from './model-parts.ts'

export interface CheckpointExport {
  readonly job: TrainingJob
  /** Relative to the job's folder, as its events name it. */
  readonly checkpoint: string
  /** Nothing, or an empty folder; it appears whole or not at all. */
  readonly out: string
  /** A model that can be served, with an adapter in its weights; or the adapter alone. */
  readonly form: 'model' | 'adapter'
}

/**
 * Of the averaged weights. Stops between pieces of some milliseconds.
 * @throws {TrainingError | WeightsError} when there is no such checkpoint, it has no adapter, or `out` cannot be written
 */
export async function* exportCheckpoint({
  job,
  checkpoint,
  out,
  form,
}: CheckpointExport): AsyncGenerator<TrainingUnit, void, void> {
  const { components } = await readCheckpointState(job.folder, basename(checkpoint))
  const parts = await openModelParts(job.base, job.folder, components)
  const lora = job.method.kind === 'lora' ? job.method : undefined
  const adapter = lora && parts.adapter && { ...lora, tensors: parts.adapter }
  const changes = componentNames.flatMap((name): [ComponentName, ComponentChange][] => {
    if (components[name] === undefined) return []
    if (name === 'transformer' && adapter) return [[name, { ...adapter, kind: 'merged' }]]
    const { config, tensors } = parts.components[name]
    return [[name, { kind: 'trained', config, tensors }]]
  })
  if (form === 'adapter' && !adapter)
    throw new TrainingError(
      `${checkpoint}: expected a LoRA's checkpoint, got one of method '${job.method.kind}'`,
    )
  const units =
    form === 'adapter' && adapter
      ? exportAdapter({ ...adapter, base: job.base, out })
      : exportModel({ base: job.base, out, changes: Object.fromEntries(changes) })
  for await (const _ of units) yield { kind: 'save' }
}
