/** Where a configured model lies, and what it is called. */
import { stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const bundledModels = fileURLToPath(new URL('../../models', import.meta.url))

export interface ModelFolder {
  readonly name: string
  readonly folder: string
}

/**
 * @param model a folder, or a name under the project's models/
 * @throws {Error} one line with both places that were looked at
 */
export async function findModel(model: string): Promise<ModelFolder> {
  const candidates = [resolve(model), join(bundledModels, model)]
  for (const folder of candidates) {
    if (await isFolder(folder)) return { name: modelName(folder), folder }
  }
  throw new Error(`expected a model folder, and neither ${candidates.join(' nor ')} is one`)
}

/** A hub cache keeps a checkpoint under `models--ORG--NAME/snapshots/REVISION`; elsewhere the folder's own name serves. */
function modelName(folder: string): string {
  const snapshots = dirname(folder)
  const repository = /^models--(.+)$/.exec(basename(dirname(snapshots)))?.[1]
  if (basename(snapshots) === 'snapshots' && repository) return repository.replaceAll('--', '/')
  return basename(folder)
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory()
  } catch {
    return false
  }
}
