/** The command line as a system's older Node starts it: in a child, with a channel that tells when that Node is gone. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test } from 'vitest'
import { temporaryFolder } from '../weights/folder.ts'

const cli = fileURLToPath(new URL('../../src/cli.ts', import.meta.url))
const tiny = fileURLToPath(new URL('../../models/tiny', import.meta.url))

test('a command whose work is done ends, with nobody closing the channel', async () => {
  const child = spawn(process.execPath, [cli, 'model', 'check', tiny], {
    env: { ...process.env, ATELIER_DATA_DIR: await temporaryFolder() },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  expect(await once(child, 'exit')).toEqual([0, null])
})
