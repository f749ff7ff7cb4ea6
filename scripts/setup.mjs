#!/usr/bin/env node
// Brings a clone to the point where it runs: dependencies as the lockfile says, the Prisma client, and the pages.
// Node built-ins only, Node >= 20, since nothing is installed when it first runs. Does nothing when all is in place.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createHash } from 'node:crypto'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildPages } from './build-pages.mjs'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const at = (...parts) => join(root, ...parts)
const modifiedMs = (path) => (existsSync(path) ? statSync(path).mtimeMs : -Infinity)

function run(command, args, env = {}) {
  const { status, error } = spawnSync(command, args, {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, ...env },
    shell: process.platform === 'win32',
  })
  if (error) throw error
  if (status !== 0) {
    console.error(`setup: "${command} ${args.join(' ')}" ended with status ${status}`)
    process.exit(status ?? 1)
  }
}

/** `npm ci` when node_modules is missing or older than the lockfile. */
export function installDependencies() {
  if (modifiedMs(at('node_modules', '.package-lock.json')) >= modifiedMs(at('package-lock.json'))) return
  console.error('setup: installing dependencies (npm ci)')
  // onnxruntime-node's own install step fetches CUDA libraries from a host that is not the npm registry.
  run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    ONNXRUNTIME_NODE_INSTALL: process.env.ONNXRUNTIME_NODE_INSTALL ?? 'skip',
  })
}

/** Generates the Prisma client when it is missing or was made from another schema or Prisma version. */
export function generateDatabaseClient() {
  if (!existsSync(at('node_modules', 'prisma', 'package.json'))) {
    console.error('atelier: its dependencies are not installed; run "npm ci" in its folder')
    process.exit(1)
  }
  const stamp = at('src', 'storage', 'client', '.schema-sha256')
  const wanted = createHash('sha256')
    .update(readFileSync(at('prisma', 'schema.prisma')))
    .update(readFileSync(at('node_modules', 'prisma', 'package.json')))
    .digest('hex')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return
  console.error('setup: generating the database client')
  // `prisma generate` asks for a schema engine that it never runs; any program that exists satisfies it.
  run(process.execPath, [at('node_modules', 'prisma', 'build', 'index.js'), 'generate', '--no-hints'], {
    PRISMA_SCHEMA_ENGINE_BINARY: process.execPath,
    PRISMA_HIDE_UPDATE_MESSAGE: '1',
    CHECKPOINT_DISABLE: '1', // no report of its use to its maker
  })
  writeFileSync(stamp, wanted)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  installDependencies()
  generateDatabaseClient()
  buildPages()
}
