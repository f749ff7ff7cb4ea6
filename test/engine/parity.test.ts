/** The parity command's own comparisons, on both golden folders, and that it notices what is wrong. */
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { runParity } from '../../src/engine/parity.ts'
import { openSafetensors, readTensor, type TensorLocation } from '../../src/weights/safetensors.ts'
import { writeSafetensors, type TensorSource } from '../../src/weights/safetensors-writer.ts'

const golden = (name: string) => fileURLToPath(new URL(`../fixtures/golden/${name}`, import.meta.url))
let folder: string
const device = () => ({ name: 'cpu', device: { provider: 'cpu' }, cacheDir: folder }) as const
const onNote = (note: string) => expect.fail(note)

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'atelier-parity-'))
})
afterAll(() => rm(folder, { recursive: true }))

const referenceFiles = ['golden', 'training', 'gradients', 'dit/golden']

test.each([
  ['tiny-512', 405],
  ['tiny-1024-ms', 426],
])(
  '%s: every reference is held against what serving and training compute, and all are within their bounds',
  async (name, count) => {
    const outFile = join(folder, `${name}.safetensors`)
    const { comparisons, uncompared } = await runParity(golden(name), device(), { outFile, onNote })
    expect(comparisons.filter(({ isWithin }) => !isWithin)).toEqual([])
    expect(comparisons).toHaveLength(count)
    expect(uncompared).toEqual([])
    // What was computed is written under the references' own names, in their shapes.
    const references = new Map<string, TensorLocation>()
    for (const file of referenceFiles)
      for (const entry of (await openSafetensors(join(golden(name), `${file}.safetensors`))).tensors)
        references.set(...entry)
    const { tensors: written } = await openSafetensors(outFile)
    expect([...written.keys()].sort()).toEqual(comparisons.map((each) => each.name).sort())
    for (const [key, { dtype, shape }] of written) {
      expect({ dtype, shape }).toEqual({
        dtype: references.get(key)?.dtype,
        shape: references.get(key)?.shape,
      })
    }
  },
)

/** Rewrites a file of tensors. */
async function change(file: string, edit: (tensors: Map<string, TensorSource>) => void): Promise<void> {
  const tensors = new Map<string, TensorSource>()
  for (const [name, location] of (await openSafetensors(file)).tensors)
    tensors.set(name, { ...location, data: await readTensor(location) } as TensorSource)
  edit(tensors)
  await writeSafetensors(file, tensors)
}

/** Adds to the first number of a tensor. */
function shift(tensors: Map<string, TensorSource>, name: string, by: number): void {
  const data = tensors.get(name)!.data as Float32Array
  data[0]! += by
}

test('a reference that is off fails by name, and one that nothing computes is told of', async () => {
  const changed = join(folder, 'changed')
  await cp(golden('tiny-512'), changed, { recursive: true })
  await change(join(changed, 'golden.safetensors'), (tensors) => {
    // Whole pictures take the longest and are not needed here.
    for (const name of tensors.keys()) if (/^run\d|^solver(20|50|4)/.test(name)) tensors.delete(name)
    shift(tensors, 'vae.mean', 1e-3)
    tensors.set('vae.surprise', { dtype: 'F32', shape: [1], data: Float32Array.of(1) })
  })
  const description = JSON.parse(await readFile(join(changed, 'golden.json'), 'utf8')) as { runs: unknown[] }
  await writeFile(join(changed, 'golden.json'), JSON.stringify({ ...description, runs: [] }))
  await change(join(changed, 'training.safetensors'), (tensors) => {
    shift(tensors, 'steps.loss', 1e-3)
    shift(tensors, 'after.proj_out.bias', 3e-5)
  })
  await change(join(changed, 'gradients.safetensors'), (tensors) => {
    shift(tensors, 'vae.grad.decoder.conv_out.bias', 1)
  })
  await change(join(changed, 'dit', 'golden.safetensors'), (tensors) => {
    // As if the class changed nothing.
    tensors.set('output.class7.t500', tensors.get('output.no_class.t500')!)
  })

  const { comparisons, uncompared } = await runParity(changed, device(), { onNote })
  expect(comparisons.filter(({ isWithin }) => !isWithin).map(({ name }) => name)).toEqual([
    'vae.mean',
    'steps.loss',
    'after.proj_out.bias',
    'vae.grad.decoder.conv_out.bias',
    'output.class7.t500',
  ])
  expect(uncompared).toEqual(['vae.surprise'])
})
