/** What a job's folder remembers of it, so that the same command goes on with it and another job does not. */
import { mkdir, readdir, readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { manifestOf } from '../../fine-tuning/job.ts'
import type { JobParameters } from '../../fine-tuning/specification.ts'
import { writeDurably } from '../../training/durable-json.ts'

export interface KnownJob {
  /** The job file as it was read. */
  readonly asked: unknown
  /** The checkpoint that it begins with, and its version. */
  readonly base: string
  readonly version: string
  readonly parameters: JobParameters
}

const fileOf = (folder: string): string => join(folder, 'job.json')

/**
 * @param wanted what is to be run in the folder
 * @returns the job that was begun there; undefined for an empty folder, or none
 * @throws {Error} when the folder holds another job, or something else
 */
export async function findKnownJob(
  folder: string,
  wanted: Pick<KnownJob, 'asked' | 'version'>,
): Promise<KnownJob | undefined> {
  const text = await readFile(fileOf(folder), 'utf8').catch(() => undefined)
  if (text === undefined) {
    const names = await readdir(folder).catch(() => [])
    // A manifest is what a job leaves that found its pictures bad, or was ended while it read them.
    const others = names.filter((name) => !name.startsWith(basename(manifestOf(folder))))
    if (others.length === 0) return undefined
    throw new Error(`${folder}: expected an empty folder or one of this job, and it holds ${others[0]}`)
  }
  const known = JSON.parse(text) as KnownJob
  if (!isDeepStrictEqual(known.asked, wanted.asked))
    throw new Error(`${folder} holds another job; ask for another folder with --out, or delete this one`)
  if (known.version !== wanted.version)
    throw new Error(`${folder}: the job began with another version of the model than there is now`)
  return known
}

/** @throws {Error} when no job was begun there */
export async function readKnownJob(folder: string): Promise<KnownJob> {
  const text = await readFile(fileOf(folder), 'utf8').catch(() => 'null')
  const known = JSON.parse(text) as Partial<KnownJob> | null
  if (known?.base === undefined || known.parameters === undefined)
    throw new Error(`${folder}: expected the folder of a job that "atelier finetune" began`)
  return known as KnownJob
}

/** Once all of it is there that a run needs. */
export async function rememberJob(folder: string, job: KnownJob): Promise<void> {
  await mkdir(folder, { recursive: true })
  await writeDurably(fileOf(folder), job)
}
