// npm's `prepare`: builds the client of `atelier/sdk` into dist/, where any runtime can use it, and the pages. An installation
// without development dependencies has no compiler, and serves all the same.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildPages } from './build-pages.mjs'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const compiler = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
if (existsSync(compiler)) {
  const { status } = spawnSync(process.execPath, [compiler, '-p', join(root, 'tsconfig.sdk.json')], {
    stdio: 'inherit',
  })
  process.exitCode = status ?? 1
}
buildPages()
