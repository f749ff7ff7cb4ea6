/** Folders of the server that a job may begin with: those below one root, by their real paths. */
import { realpath } from 'node:fs/promises'
import { relative } from 'node:path'
import { FineTuningError } from './errors.ts'
import { leadsOut } from './specification.ts'

/** @throws {FineTuningError} `invalid_job` when there is no such folder, or a link leads elsewhere */
export async function checkSource(folder: string, sources: string): Promise<void> {
  const [root, real] = await Promise.all(
    [sources, folder].map((path) => realpath(path).catch(() => undefined)),
  )
  if (root !== undefined && real !== undefined && !leadsOut(relative(root, real))) return
  throw new FineTuningError('invalid_job', 'start.source: there is no such folder', {
    parameter: 'start.source',
  })
}
