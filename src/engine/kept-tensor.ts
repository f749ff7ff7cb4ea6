/** A tensor that is computed once and kept in the cache. */
import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { WeightsError } from '../weights/errors.ts'
import { openSafetensors, readFloats } from '../weights/safetensors.ts'
import { writeSafetensors } from '../weights/safetensors-writer.ts'

const name = 'tensor'

export interface Keeping {
  /** Its name must tell everything that the values depend on. */
  readonly file: string
  readonly shape: readonly number[]
  /** Hears why it could not be kept; it is used all the same. */
  readonly onNote: (message: string) => void
}

/** @returns what the file holds; when there is none that can be read, what `compute` gives, which is then kept */
export async function keptTensor(
  { file, shape, onNote }: Keeping,
  compute: () => Promise<Float32Array>,
): Promise<Float32Array> {
  const kept = await read(file, shape)
  if (kept) return kept
  const data = await compute()
  try {
    await mkdir(dirname(file), { recursive: true })
    await writeSafetensors(file, [[name, { dtype: 'F32', shape, data }]])
  } catch (error) {
    onNote(`not kept for the next start: ${error instanceof Error ? error.message : String(error)}`)
  }
  return data
}

async function read(file: string, shape: readonly number[]): Promise<Float32Array | undefined> {
  try {
    const tensor = (await openSafetensors(file)).tensors.get(name)
    return tensor?.dtype === 'F32' && tensor.shape.join() === shape.join()
      ? await readFloats(tensor)
      : undefined
  } catch (error) {
    if (error instanceof WeightsError) return undefined
    throw error
  }
}
