/** `atelier model export JOB OUT`: what a job of `atelier finetune` had made at one of its checkpoints, for others to load. */
import { basename, join, resolve } from 'node:path'
import type { Config } from '../../config.ts'
import { toTrainingJob } from '../../fine-tuning/job.ts'
import { listCheckpoints } from '../../training/checkpoint.ts'
import { exportCheckpoint } from '../../training/export.ts'
import { fineTuningOptions } from '../devices.ts'
import { readKnownJob } from '../finetune/job-folder.ts'

export interface ExportOptions {
  /** The last one unless given. */
  readonly checkpoint?: string
  readonly form: 'model' | 'adapter'
}

/** @throws when the folder is no job's, has no such checkpoint, or `out` cannot be written */
export async function modelExport(
  config: Config,
  jobFolder: string,
  out: string,
  { checkpoint: wanted, form }: ExportOptions,
): Promise<void> {
  const folder = resolve(jobFolder)
  const known = await readKnownJob(folder)
  const names = await listCheckpoints(folder)
  const checkpoint = wanted ?? names.at(-1)
  if (checkpoint === undefined || !names.includes(checkpoint))
    throw new Error(
      `${folder}: expected ${names.length === 0 ? 'a job with a checkpoint' : `--checkpoint as one of ${names.join(', ')}`}, got ${checkpoint ?? 'one without'}`,
    )
  const job = toTrainingJob(
    { ...known, id: basename(folder) },
    { folder, cacheDir: join(config.dataDir, 'cache') },
    fineTuningOptions(config).maxMicroStepMs,
  )
  for await (const _ of exportCheckpoint({ job, checkpoint, out: resolve(out), form }));
  console.log(`the ${form} of checkpoint ${checkpoint} is in ${resolve(out)}`)
}
