/** A tensor that is computed once and kept in the cache. */
import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { WeightsError } from '../weights/errors.ts'
import { openSafetensors, readFloats } from '../weights/safetensors.ts'
import { writeSafetensors } from '../weights/safetensors-writer.ts'

const name = 'tensor'

/**
 * @param file its name must tell everything that the values depend on
 * @returns what the file holds; when there is none that can be read, what `compute` gives, which is then kept
 */
export async function keptTensor(
  file: string,
  shape: readonly number[],
  compute: () => Promise<Float32Array>,
): Promise<Float32Array> {
  const kept = await read(file, shape)
  if (kept) return kept
  const data = await compute()
  await mkdir(dirname(file), { recursive: true })
  await writeSafetensors(file, [[name, { dtype: 'F32', shape, data }]])
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
