import { mkdirSync, statSync, writeFileSync } from 'node:fs'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { callControl, controlPath, serveControl, type ControlHandlers } from '../../src/storage/control.ts'
import { temporaryFolder } from './folders.ts'

async function serve(dataDir: string, handlers: ControlHandlers): Promise<void> {
  const server = await serveControl(dataDir, handlers)
  onTestFinished(() => server.close())
}

test('a command and its arguments reach the server, and its result comes back', async () => {
  const dataDir = temporaryFolder()
  await serve(dataDir, {
    add: async (args) => ({ sum: (args as number[]).reduce((a, b) => a + b, 0), text: '日本\n' }),
    nothing: () => undefined,
  })
  expect(await callControl(dataDir, 'add', [1, 2, 3])).toEqual({
    state: 'answered',
    result: { sum: 6, text: '日本\n' },
  })
  expect(await callControl(dataDir, 'nothing', {})).toEqual({ state: 'answered', result: null })
})

test('a handler that throws, and a command that nobody knows, reject with the reason', async () => {
  const dataDir = temporaryFolder()
  const broken = () => {
    throw new Error('no such key')
  }
  await serve(dataDir, { broken })
  await expect(callControl(dataDir, 'broken', {})).rejects.toMatchObject({
    code: 'control_failed',
    message: 'no such key',
  })
  await expect(callControl(dataDir, 'toString', {})).rejects.toMatchObject({
    code: 'control_failed',
    message: expect.stringContaining('"toString"'),
  })
})

test('nobody answers where no server runs, nor after it closed, nor at the socket of a dead one', async () => {
  const dataDir = temporaryFolder()
  expect(await callControl(dataDir, 'x', {})).toEqual({ state: 'no_server' })
  const server = await serveControl(dataDir, {})
  await server.close()
  expect(await callControl(dataDir, 'x', {})).toEqual({ state: 'no_server' })
  writeFileSync(controlPath(dataDir), '')
  expect(await callControl(dataDir, 'x', {})).toEqual({ state: 'no_server' })
  await serve(dataDir, { x: () => 'alive' })
  expect(await callControl(dataDir, 'x', {})).toEqual({ state: 'answered', result: 'alive' })
})

test('a caller that sends nonsense or leaves early does the server no harm', async () => {
  const dataDir = temporaryFolder()
  await serve(dataDir, { ping: () => 'pong' })
  const leaver = createConnection(controlPath(dataDir))
  await new Promise((connected) => {
    leaver.once('connect', connected)
  })
  leaver.write('{"comm')
  leaver.destroy()
  const babbler = createConnection(controlPath(dataDir))
  babbler.write('not json\n')
  const [answer] = await Array.fromAsync(babbler)
  expect(JSON.parse(String(answer))).toEqual({ error: expect.stringContaining('JSON') })
  expect(await callControl(dataDir, 'ping', {})).toEqual({ state: 'answered', result: 'pong' })
})

test.skipIf(process.platform === 'win32')(
  'only this user can open the socket, also where the data folder is too long for one',
  async () => {
    const short = temporaryFolder()
    const long = join(temporaryFolder(), 'a'.repeat(120))
    mkdirSync(long)
    for (const dataDir of [short, long]) {
      await serve(dataDir, { where: () => dataDir })
      expect(statSync(controlPath(dataDir)).mode & 0o777).toBe(0o600)
      expect(Buffer.byteLength(controlPath(dataDir))).toBeLessThanOrEqual(103)
      expect(await callControl(dataDir, 'where', {})).toEqual({ state: 'answered', result: dataDir })
    }
    expect(controlPath(short)).toBe(join(short, 'control.sock'))
    expect(controlPath(long).startsWith(tmpdir())).toBe(true)
  },
)
