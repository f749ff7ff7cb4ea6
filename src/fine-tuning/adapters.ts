/** LoRAs as files for others: made of a checkpoint when they are first asked for, and kept in the job's folder. */
import { existsSync } from 'node:fs'
import { mkdir, open, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { EngineError, type TrainingPool } from '../engine/pool.ts'
import type { TrainingJob } from '../training/job.ts'
import { FineTuningError } from './errors.ts'
import type { CheckpointRecord } from './reader.ts'

export interface AdapterFile {
  readonly sizeBytes: number
  readonly bytes: Readable
}

/** In diffusers' naming, with alpha; beside it lies the same in PEFT's. */
const diffusersFile = 'pytorch_lora_weights.safetensors'

export class Adapters {
  readonly #pool: Pick<TrainingPool, 'exportCheckpoint'>
  readonly #making = new Map<string, Promise<void>>()

  constructor(pool: Pick<TrainingPool, 'exportCheckpoint'>) {
    this.#pool = pool
  }

  /** @throws {FineTuningError} `export_failed`, also when the job trains all weights */
  async open(job: TrainingJob, checkpoint: CheckpointRecord): Promise<AdapterFile> {
    if (job.method.kind !== 'lora')
      throw new FineTuningError(
        'export_failed',
        'expected a job that trains a LoRA, got one that trains all weights',
      )
    const folder = join(job.folder, 'adapters', String(checkpoint.step))
    const making = this.#making.get(folder) ?? this.#make(folder, job, checkpoint)
    this.#making.set(folder, making)
    try {
      await making
    } finally {
      this.#making.delete(folder)
    }
    const file = await open(join(folder, diffusersFile))
    return { sizeBytes: (await file.stat()).size, bytes: file.createReadStream() }
  }

  /** Whole or not at all. */
  async #make(folder: string, job: TrainingJob, checkpoint: CheckpointRecord): Promise<void> {
    if (existsSync(folder)) return
    const unfinished = `${folder}.new`
    await rm(unfinished, { recursive: true, force: true })
    await mkdir(join(job.folder, 'adapters'), { recursive: true })
    try {
      await this.#pool.exportCheckpoint({
        job,
        checkpoint: checkpoint.folder,
        out: unfinished,
        form: 'adapter',
      })
    } catch (error) {
      if (error instanceof EngineError)
        throw new FineTuningError('export_failed', error.message, { cause: error })
      throw error
    }
    await rename(unfinished, folder)
  }
}
