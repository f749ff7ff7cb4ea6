/** `atelier key`, as an operator types it: with a server that holds the database, and without one. */
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { pino } from 'pino'
import { expect, test } from 'vitest'
import { startAccessService } from '../../src/access/service.ts'
import { keyHandlers } from '../../src/commands/key.ts'
import { serveControl } from '../../src/storage/control.ts'
import { openEmbeddedDatabase } from '../../src/storage/database.ts'
import { preparedFolder } from '../storage/prepared-folder.ts'

const entry = fileURLToPath(new URL('../../bin/atelier.mjs', import.meta.url))

const atelier = async (
  dataDir: string,
  args: readonly string[],
  environment: Record<string, string> = {},
) => {
  const env = {
    PATH: process.env['PATH'],
    ATELIER_DATA_DIR: dataDir,
    ATELIER_LOG_LEVEL: 'silent',
    ...environment,
  }
  return promisify(execFile)(process.execPath, [entry, ...args], { env })
}
const key = (dataDir: string, ...args: readonly string[]) => atelier(dataDir, ['key', ...args])

test('makes, lists and revokes keys, of the server while it runs and on its own while it does not', async () => {
  const dataDir = await preparedFolder()
  await expect(
    atelier(dataDir, ['serve'], { ATELIER_HOST: '0.0.0.0', ATELIER_PORT: '0' }),
  ).rejects.toMatchObject({
    stderr: expect.stringMatching(
      /^atelier: ATELIER_HOST: expected an address of this machine alone.* got 0\.0\.0\.0; make one with "atelier key create --name NAME"\n$/,
    ),
  })

  const made = await key(dataDir, 'create', '--name', 'the blog')
  const text = made.stdout.trim()
  expect(text).toMatch(/^atl_\w{46}$/)
  expect(made.stderr).toMatch(
    /^key_\w+ of the project default, for generate, read, does not expire\. Keep it/,
  )

  const database = await openEmbeddedDatabase(dataDir)
  const access = await startAccessService({ database, log: pino({ level: 'silent' }) })
  const control = await serveControl(dataDir, keyHandlers(access.keys))
  try {
    expect(await access.keyring.judge(text)).toMatchObject({ kind: 'valid', key: { name: 'the blog' } })
    const limits = [
      '--expires-in-days',
      '7',
      '--requests-per-minute',
      '60',
      '--max-in-flight',
      '2',
      '--images-per-month',
      '9',
    ]
    const options = ['--name', 'a team', '--project', 'team-a', '--scopes', 'admin,read', ...limits, '--json']
    const other = JSON.parse((await key(dataDir, 'create', ...options)).stdout)
    expect(other).toMatchObject({
      project: 'team-a',
      scopes: ['read', 'admin'],
      requestsPerMinute: 60,
      maxInFlight: 2,
      imagesPerMonth: 9,
    })
    const days = (new Date(other.expiresAt).getTime() - Date.now()) / 86_400_000
    expect(days).toBeCloseTo(7, 1)
    expect(await access.keyring.judge(other.key)).toMatchObject({ kind: 'valid', key: { project: 'team-a' } })
    expect((await key(dataDir, 'revoke', other.id)).stdout).toBe(`${other.id} (a team) is revoked\n`)
    expect(await access.keyring.judge(other.key)).toEqual({ kind: 'invalid', fault: 'revoked' })
    const { 'key create': create, 'key revoke': revoke } = keyHandlers(access.keys)
    const wanted = { name: 'x', project: 'default', scopes: 'read' }
    for (const [refused, message] of [
      [() => revoke({ id: 'key_x' }), 'there is no key key_x'],
      [() => create({ ...wanted, scopes: 'root' }), '--scopes: expected generate, read, admin, got "root"'],
      [() => create({ ...wanted, project: 'Team A' }), '--project: expected small letters'],
    ] as const)
      await expect(refused()).rejects.toThrow(message)
  } finally {
    await control.close()
    await access.close()
    await database.close()
  }

  const { stdout } = await key(dataDir, 'list')
  const [first, second, ...more] = stdout.trim().split('\n')
  expect(first).toMatch(/^key_\w+ {2}atl_\w{8}… {2}team-a +read,admin +revoked +used 20\S+ +a team$/)
  expect(second).toMatch(/^key_\w+ {2}atl_\w{8}… {2}default +generate,read +valid +used 20\S+ +the blog$/)
  expect(more).toEqual([])
}, 600_000)
