import { mkdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { checkSource } from '../../src/fine-tuning/sources.ts'
import { temporaryFolder } from '../storage/folders.ts'

test('a job begins with what really lies below the folder for such, and with nothing that a link leads to', async () => {
  const [sources, elsewhere] = [temporaryFolder(), temporaryFolder()]
  mkdirSync(join(sources, 'dit'))
  symlinkSync(elsewhere, join(sources, 'out'))
  symlinkSync(join(sources, 'dit'), join(sources, 'other-name'))
  for (const name of ['dit', 'other-name'])
    await expect(checkSource(join(sources, name), sources)).resolves.toBeUndefined()
  for (const name of ['out', 'none'])
    await expect(checkSource(join(sources, name), sources)).rejects.toMatchObject({
      code: 'invalid_job',
      parameter: 'start.source',
    })
})
