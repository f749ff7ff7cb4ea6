/** Where configured models lie, and what they are called. */
import { readdir, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const bundledModels = fileURLToPath(new URL('../../models', import.meta.url))

export interface ModelFolder {
  readonly name: string
  readonly folder: string
}

/**
 * @param models each a checkpoint's folder, a name under the project's models/, or a folder of checkpoints
 * @returns every checkpoint found, in the order given
 * @throws {Error} one line: what is no folder, holds no checkpoint, or is there under a name that another has
 */
export async function findModels(
  models: readonly string[],
): Promise<readonly [ModelFolder, ...ModelFolder[]]> {
  const found = (await Promise.all(models.map(findIn))).flat()
  const [first, ...others] = found
  if (!first) throw new Error('expected at least one model, got none')
  for (const [index, { name, folder }] of found.entries()) {
    const twin = found.findIndex((other) => other.name === name)
    if (twin !== index)
      throw new Error(
        `two models are called ${name}: ${found[twin]?.folder} and ${folder}; rename one of the folders`,
      )
  }
  return [first, ...others]
}

async function findIn(model: string): Promise<readonly ModelFolder[]> {
  const candidates = [resolve(model), join(bundledModels, model)]
  const folder = await firstFolder(candidates)
  if (!folder) throw new Error(`expected a model folder, and neither ${candidates.join(' nor ')} is one`)
  // What is neither a checkpoint nor a folder of them is opened as a checkpoint, which says in full what it lacks.
  if (await exists(join(folder, 'model_index.json'))) return [{ name: modelName(folder), folder }]
  const inside = await Array.fromAsync(await readdir(folder), (name) => join(folder, name))
  const checkpoints = []
  for (const each of inside.sort()) if (await exists(join(each, 'model_index.json'))) checkpoints.push(each)
  const folders = checkpoints.length > 0 ? checkpoints : [folder]
  return folders.map((each) => ({ name: modelName(each), folder: each }))
}

/** A hub cache keeps a checkpoint under `models--ORG--NAME/snapshots/REVISION`; elsewhere the folder's own name serves. */
function modelName(folder: string): string {
  const snapshots = dirname(folder)
  const repository = /^models--(.+)$/.exec(
    basename(basename(snapshots) === 'snapshots' ? dirname(snapshots) : folder),
  )?.[1]
  return repository ? repository.replaceAll('--', '/') : basename(folder)
}

async function firstFolder(candidates: readonly string[]): Promise<string | undefined> {
  for (const folder of candidates) if ((await kindOf(folder)) === 'folder') return folder
  return undefined
}

const exists = async (path: string): Promise<boolean> => (await kindOf(path)) !== 'nothing'

async function kindOf(path: string): Promise<'folder' | 'file' | 'nothing'> {
  try {
    return (await stat(path)).isDirectory() ? 'folder' : 'file'
  } catch {
    return 'nothing'
  }
}
