/** A folder for one test, gone when the test is over. */
import { mkdtemp, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'

export async function temporaryFolder(): Promise<string> {
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'atelier-weights-')))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  return folder
}
