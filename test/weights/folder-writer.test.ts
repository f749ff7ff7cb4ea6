import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { refuseFullDisk, writeFolder } from '../../src/weights/folder-writer.ts'
import { temporaryFolder } from './folder.ts'

const fill = (temporary: string) => writeFile(join(temporary, 'file'), '')

/** No process has it: Linux gives at most 2^22. */
const goneProcess = 2 ** 22 + 1

test('what a killed process left of the same folder is removed, and nothing else', async () => {
  const folder = await temporaryFolder()
  const [killed, other] = ['out.0123456789abcdef.tmp', 'out.v2.0123456789abcdef.tmp']
  for (const name of [killed, other]) await mkdir(join(folder, name, 'vae'), { recursive: true })
  await writeFile(join(folder, 'out.lock'), `${goneProcess} id ${hostname()}`)
  await writeFolder(join(folder, 'out'), fill)
  expect((await readdir(folder, { recursive: true })).sort()).toEqual([
    'out',
    'out.v2.0123456789abcdef.tmp',
    'out.v2.0123456789abcdef.tmp/vae',
    'out/file',
  ])
})

test('a folder that another is writing is left to it', async () => {
  const folder = await temporaryFolder()
  const out = join(folder, 'out')
  await writeFolder(out, async (temporary) => {
    await expect(writeFolder(out, fill)).rejects.toThrow(
      `${out}: expected a folder that no other process is writing, got one locked by ${out}.lock`,
    )
    await fill(temporary)
  })
  expect(await readdir(folder, { recursive: true })).toEqual(['out', 'out/file'])
})

test('one that fails leaves nothing behind', async () => {
  const folder = await temporaryFolder()
  const failing = writeFolder(join(folder, 'out'), async (temporary) => {
    await fill(temporary)
    throw new Error('no')
  })
  await expect(failing).rejects.toThrow('no')
  expect(await readdir(folder)).toEqual([])
})

test('a disk is refused by what it lacks', async () => {
  const folder = await temporaryFolder()
  await refuseFullDisk(join(folder, 'out'), 1)
  await expect(refuseFullDisk(join(folder, 'out'), 2 ** 60)).rejects.toThrow(
    /out: expected a disk with 1099511627776 MiB free, got one with \d+ MiB$/,
  )
})
