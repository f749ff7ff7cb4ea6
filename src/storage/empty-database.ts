/**
 * Makes database folders in which there is nothing yet.
 *
 * initdb takes PGlite seconds of CPU time, and copying what it left a tenth of one. So it runs once for each version of
 * PGlite, its result is kept beside the compiled sources, and every further data folder begins with a copy.
 */
import { existsSync } from 'node:fs'
import { cp, mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { PGlite } from '@electric-sql/pglite'
import packageJson from '../../package.json' with { type: 'json' }

const cacheFolder = fileURLToPath(new URL('../../node_modules/.cache/empty-databases', import.meta.url))

/**
 * @param folder must not exist
 * @param cache where the one to copy is kept; a folder that cannot be written costs the time of initdb, and no more
 */
export async function makeEmptyDatabase(folder: string, cache: string = cacheFolder): Promise<void> {
  const kept = join(cache, packageJson.dependencies['@electric-sql/pglite'])
  if (!existsSync(kept)) await keep(kept, cache).catch(() => undefined)
  if (existsSync(kept)) await cp(kept, folder, { recursive: true })
  else await initialise(folder)
}

/** A folder under its final name is whole: it is made beside it and renamed. */
async function keep(kept: string, cache: string): Promise<void> {
  await mkdir(cache, { recursive: true })
  const unfinished = await mkdtemp(join(cache, 'unfinished-'))
  try {
    await initialise(join(unfinished, 'database'))
    await rename(join(unfinished, 'database'), kept) // fails where another process was first, whose is as good
  } finally {
    await rm(unfinished, { recursive: true })
  }
}

async function initialise(folder: string): Promise<void> {
  const fresh = await PGlite.create({ dataDir: folder })
  await fresh.close()
}
