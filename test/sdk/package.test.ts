/** Property: what `atelier/sdk` points at is plain JavaScript for any runtime, as an installed package needs it. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { expect, test } from 'vitest'
import type { createAtelier as createAtelierFromSource } from '../../src/sdk/index.ts'
import packageJson from '../../package.json' with { type: 'json' }

const root = fileURLToPath(new URL('../../', import.meta.url))

test('the client builds without the types of Node, and runs from a folder in which Node strips no types', async () => {
  const out = mkdtempSync(join(root, 'node_modules', '.atelier-sdk-'))
  try {
    const { status, stdout } = spawnSync('tsc', ['-p', 'tsconfig.sdk.json', '--outDir', out], {
      cwd: root,
      encoding: 'utf8',
    })
    expect(stdout).toBe('')
    expect(status).toBe(0)
    const built = packageJson.exports['./sdk'].default.replace('./dist/sdk/', '')
    expect(readdirSync(out)).toContain(built)
    const { createAtelier } = (await import(pathToFileURL(join(out, built)).href)) as {
      createAtelier: typeof createAtelierFromSource
    }
    const answer = { object: 'list', data: [] }
    const client = createAtelier({ baseUrl: 'http://127.0.0.1:1', fetch: async () => Response.json(answer) })
    await expect(client.models.list()).resolves.toEqual(answer)
  } finally {
    rmSync(out, { recursive: true })
  }
})
