#!/usr/bin/env node
// The command `atelier`: finds the pinned Node 24 that the `node` package installed, then runs src/cli.ts with it.
// The system's Node may be older; then this process only passes signals and the exit status on.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildPages } from '../scripts/build-pages.mjs'
import { generateDatabaseClient } from '../scripts/setup.mjs'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
generateDatabaseClient()
if (['serve', 'api'].includes(process.argv[2])) buildPages()

if (Number(process.versions.node.split('.')[0]) >= 24) {
  await import('../src/cli.ts')
} else {
  const pinned = join(root, 'node_modules', 'node', 'bin', process.platform === 'win32' ? 'node.exe' : 'node')
  if (!existsSync(pinned)) {
    console.error(
      `atelier: needs Node >= 24 and found ${process.version}; run "npm ci", which installs it (the npm package "node")`,
    )
    process.exit(1)
  }
  // The IPC channel tells the child when this process is gone, however it died.
  const child = spawn(pinned, [join(root, 'src', 'cli.ts'), ...process.argv.slice(2)], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
  })
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  child.on('exit', (code, signal) => {
    if (signal) {
      process.removeAllListeners(signal)
      process.kill(process.pid, signal)
    } else process.exit(code ?? 1)
  })
}
