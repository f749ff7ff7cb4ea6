/** What lies in a job's folder: which checkpoints, and how large they are. */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { overallStep, type JobParameters } from './specification.ts'
import type { NewCheckpoint } from './told.ts'

const checkpoints = 'checkpoints'

/** @returns those that are whole, relative to the job's folder; others have a temporary name */
export async function checkpointFolders(jobFolder: string): Promise<string[]> {
  const names = await readdir(join(jobFolder, checkpoints)).catch(nothingIfAbsent)
  return names
    .filter((name) => placePattern.test(name))
    .sort()
    .map((name) => `${checkpoints}/${name}`)
}

const placePattern = /^(\d{2,})-(\d{6,})$/

export async function describeCheckpoint(
  jobFolder: string,
  folder: string,
  parameters: Pick<JobParameters, 'stages'>,
): Promise<NewCheckpoint> {
  const [, stage, step] = placePattern.exec(folder.slice(checkpoints.length + 1)) ?? []
  if (stage === undefined || step === undefined)
    throw new Error(`${folder}: expected ${checkpoints}/STAGE-STEP`)
  return {
    stage: Number(stage),
    step: overallStep(parameters, Number(stage), Number(step)),
    folder,
    sizeBytes: await sizeOf(join(jobFolder, folder)),
  }
}

/** Of all files beneath. */
export async function sizeOf(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const sizes = entries
    .filter((entry) => entry.isFile())
    .map(async ({ parentPath, name }) => (await stat(join(parentPath, name))).size)
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0)
}

function nothingIfAbsent(error: unknown): string[] {
  if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return []
  throw error
}
