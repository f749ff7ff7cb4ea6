// Writes the generated sources from their one source each; with --check it only says which are stale, and fails.
//   src/sdk/schema.ts     <- openapi.yaml          (openapi-typescript)
//   src/graph/onnx_pb.ts  <- src/graph/onnx.proto  (protoc-gen-es through buf)
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const bin = (name) => join(root, 'node_modules', '.bin', name)
const folder = mkdtempSync(join(tmpdir(), 'atelier-generate-'))

function run(command, args) {
  const { status, stderr, error } = spawnSync(command, args, { cwd: root, encoding: 'utf8' })
  if (error || status !== 0) throw new Error(`${command} failed: ${error?.message ?? stderr}`)
}

const sources = {
  'src/sdk/schema.ts': () => {
    const out = join(folder, 'schema.ts')
    run(bin('openapi-typescript'), [
      'openapi.yaml',
      '--output',
      out,
      '--root-types',
      '--default-non-nullable=false',
    ])
    return out
  },
  'src/graph/onnx_pb.ts': () => {
    const template = JSON.stringify({
      version: 'v2',
      plugins: [{ local: bin('protoc-gen-es'), out: folder, opt: ['target=ts', 'import_extension=ts'] }],
    })
    run(bin('buf'), ['generate', '--template', template, 'src/graph'])
    return join(folder, 'onnx_pb.ts')
  },
}

const check = process.argv.includes('--check')
const stale = []
try {
  for (const [path, make] of Object.entries(sources)) {
    const fresh = readFileSync(make(), 'utf8')
    let current = ''
    try {
      current = readFileSync(join(root, path), 'utf8')
    } catch (error) {
      if (error.code !== 'ENOENT') throw error
    }
    if (fresh === current) continue
    if (check) stale.push(path)
    else writeFileSync(join(root, path), fresh)
  }
} finally {
  rmSync(folder, { recursive: true })
}
if (stale.length > 0) {
  console.error(`stale: ${stale.join(', ')}; run "npm run generate" and commit the result`)
  process.exit(1)
}
