/** Where a benchmark puts what it makes. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Gone when the process ends, however it is told to. */
export function temporaryFolder(): string {
  const path = mkdtempSync(join(tmpdir(), 'atelier-bench-'))
  process.once('exit', () => rmSync(path, { recursive: true, force: true }))
  return path
}
