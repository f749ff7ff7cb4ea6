// Builds the pages of src/web into dist/web when they are missing or what they are made of has changed. An installation
// without Vite serves those that it came with. Node built-ins only, Node >= 20.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const at = (...parts) => join(root, ...parts)

/** Files and folders that the pages are made of. */
const sources = [
  'src/web',
  'src/sdk',
  'openapi.yaml',
  'package-lock.json',
  'vite.config.ts',
  'scripts/vite-docs.ts',
  'docs',
  'README.md',
  'ARCHITECTURE.md',
  'CHANGELOG.md',
]

export function buildPages() {
  const vite = at('node_modules', 'vite', 'bin', 'vite.js')
  if (!existsSync(vite)) return
  const built = at('dist', 'web')
  const wanted = digestOf(sources)
  if (stampIn(built) === wanted) return
  console.error('setup: building the pages')
  // Made beside them and put in their place whole: another process may be doing the same, or serve the old ones.
  const fresh = at('dist', `.web-${process.pid}`)
  try {
    build(vite, fresh)
    writeFileSync(join(fresh, stampName), wanted)
    rmSync(built, { recursive: true, force: true })
    renameSync(fresh, built)
  } catch (error) {
    if (stampIn(built) !== wanted) throw error
  } finally {
    rmSync(fresh, { recursive: true, force: true })
  }
}

const stampName = '.sources-sha256'

function stampIn(folder) {
  const stamp = join(folder, stampName)
  return existsSync(stamp) ? readFileSync(stamp, 'utf8') : undefined
}

function build(vite, outDir) {
  // The system's Node may be older than what Vite needs.
  const pinned = at('node_modules', 'node', 'bin', process.platform === 'win32' ? 'node.exe' : 'node')
  const node = existsSync(pinned) ? pinned : process.execPath
  const options = ['--outDir', outDir, '--emptyOutDir', '--logLevel', 'warn']
  const { status, error } = spawnSync(node, [vite, 'build', ...options], {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, NODE_ENV: 'production' },
  })
  if (error) throw error
  if (status !== 0) throw new Error(`the pages could not be built: Vite ended with status ${status}`)
}

function digestOf(paths) {
  const hash = createHash('sha256')
  for (const file of paths.flatMap(filesUnder).sort()) {
    hash.update(`${file.split(sep).join('/')}\n`).update(existsSync(at(file)) ? readFileSync(at(file)) : '')
  }
  return hash.digest('hex')
}

function filesUnder(path) {
  if (!existsSync(at(path)) || !statSync(at(path)).isDirectory()) return [path]
  return readdirSync(at(path)).flatMap((name) => filesUnder(join(path, name)))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) buildPages()
