import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { lockFolder } from '../../src/storage/lock.ts'

const folder = mkdtempSync(join(tmpdir(), 'atelier-lock-'))
afterAll(() => rmSync(folder, { recursive: true }))

test('a data folder is made with all that leads to it, for its owner only', () => {
  const deep = join(folder, 'a', 'b', 'c')
  lockFolder(deep).release()
  expect(statSync(deep).mode & 0o777).toBe(0o700)
  lockFolder(deep).release()
})

test('a folder that cannot be made is refused at once, by the name of the setting', () => {
  const file = join(folder, 'file')
  writeFileSync(file, '')
  for (const path of [join(file, 'data'), file]) {
    expect(() => lockFolder(path)).toThrow(
      `ATELIER_DATA_DIR: expected a folder that this user can write, got ${path}`,
    )
  }
})

test.runIf(process.platform === 'linux')('so is one where the file system makes none', () => {
  expect(() => lockFolder('/proc/nowhere/data')).toThrow(
    'ATELIER_DATA_DIR: expected a folder that this user can write, got /proc/nowhere/data',
  )
})
