import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { keptTensor } from '../../src/engine/kept-tensor.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'atelier-kept-'))
})
afterAll(() => rm(folder, { recursive: true }))

const onNote = (message: string): void => void notes.push(message)
let notes: string[] = []

test('a tensor is computed once, and again where the file is of another shape or no such file at all', async () => {
  const file = join(folder, 'texts', 'one.safetensors')
  const values = Float32Array.of(1.5, -0, 3e-40, 7, 8, 9)
  let computed = 0
  const compute = async (): Promise<Float32Array> => {
    computed += 1
    return values
  }
  expect(await keptTensor({ file, shape: [2, 3], onNote }, compute)).toBe(values)
  const again = await keptTensor({ file, shape: [2, 3], onNote }, compute)
  expect(new Uint32Array(again.buffer, again.byteOffset, 6)).toEqual(new Uint32Array(values.buffer))
  expect(computed).toBe(1)
  await keptTensor({ file, shape: [3, 2], onNote }, compute)
  expect(computed).toBe(2)
  await writeFile(file, 'half a file')
  await keptTensor({ file, shape: [3, 2], onNote }, compute)
  expect(computed).toBe(3)
  await keptTensor({ file, shape: [3, 2], onNote }, compute)
  expect(computed).toBe(3)
})

test('a disk that does not take it stops nothing and is told of', async () => {
  await writeFile(join(folder, 'blocked'), '')
  notes = []
  const values = Float32Array.of(1, 2)
  const file = join(folder, 'blocked', 'one.safetensors')
  expect(await keptTensor({ file, shape: [2], onNote }, () => Promise.resolve(values))).toBe(values)
  expect(notes).toEqual([expect.stringMatching(/^not kept for the next start: .*blocked/)])
})
