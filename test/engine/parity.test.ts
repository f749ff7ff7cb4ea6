/** The parity command's own comparisons, on both golden folders, and that it notices what is wrong. */
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { runParity } from '../../src/engine/parity.ts'
import { openSafetensors, readTensor } from '../../src/weights/safetensors.ts'
import { writeSafetensors, type TensorSource } from '../../src/weights/safetensors-writer.ts'

const golden = (name: string) => fileURLToPath(new URL(`../fixtures/golden/${name}`, import.meta.url))
let folder: string
const device = () => ({ name: 'cpu', device: { provider: 'cpu' }, cacheDir: folder }) as const
const onNote = (note: string) => expect.fail(note)

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'atelier-parity-'))
})
afterAll(() => rm(folder, { recursive: true }))

test.each([
  ['tiny-512', 21],
  ['tiny-1024-ms', 18],
])(
  '%s: every reference is held against what serving computes, and all are within their bounds',
  async (name, count) => {
    const outFile = join(folder, `${name}.safetensors`)
    const { comparisons, uncompared } = await runParity(golden(name), device(), { outFile, onNote })
    expect(comparisons.filter(({ isWithin }) => !isWithin)).toEqual([])
    expect(comparisons).toHaveLength(count)
    expect(uncompared).toEqual([])
    // What was computed is written under the references' own names, in their shapes.
    const { tensors: references } = await openSafetensors(join(golden(name), 'golden.safetensors'))
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

test('a reference that is off fails by name, and one that nothing computes is told of', async () => {
  const changed = join(folder, 'changed')
  await cp(golden('tiny-512'), changed, { recursive: true })
  const { tensors } = await openSafetensors(join(golden('tiny-512'), 'golden.safetensors'))
  const all = new Map<string, TensorSource>()
  for (const [name, location] of tensors) {
    // Whole pictures take the longest and are not needed here.
    if (!/^run\d|^solver(20|50|4)/.test(name))
      all.set(name, { ...location, data: await readTensor(location) } as TensorSource)
  }
  const mean = all.get('vae.mean')!
  ;(mean.data as Float32Array)[0]! += 1e-3
  all.set('vae.surprise', { dtype: 'F32', shape: [1], data: Float32Array.of(1) })
  await writeSafetensors(join(changed, 'golden.safetensors'), all)
  const description = JSON.parse(await readFile(join(changed, 'golden.json'), 'utf8')) as { runs: unknown[] }
  await writeFile(join(changed, 'golden.json'), JSON.stringify({ ...description, runs: [] }))

  const { comparisons, uncompared } = await runParity(changed, device(), { onNote })
  expect(comparisons.filter(({ isWithin }) => !isWithin).map(({ name }) => name)).toEqual(['vae.mean'])
  expect(uncompared).toEqual(['vae.surprise'])
})
