/** JSON files that a crash leaves whole, old or new. */
import { randomBytes } from 'node:crypto'
import { mkdir, open, rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import { temporarySuffix } from '../weights/safetensors-writer.ts'

/** Writes JSON that is on the disk, whole, when this returns; the folder around it is made. */
export async function writeDurably(file: string, value: unknown): Promise<void> {
  const temporary = `${file}.${randomBytes(8).toString('hex')}${temporarySuffix}`
  await mkdir(dirname(file), { recursive: true })
  const handle = await open(temporary, 'wx')
  try {
    await handle.writeFile(`${JSON.stringify(value, null, 2)}\n`)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(temporary, file)
  await flushFolder(dirname(file))
}

/** A rename is on the disk only when its folder is. */
export async function flushFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
