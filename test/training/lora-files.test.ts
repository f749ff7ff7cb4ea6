import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { pixart, readPixArtConfig } from '../../src/models/pixart.ts'
import { defaultTargets, isLoraKey, loraKey, loraShapes, planLora } from '../../src/training/lora.ts'
import { readAdapter, writeAdapter } from '../../src/training/lora-files.ts'
import { mergedTensors } from '../../src/training/lora-merge.ts'
import { openSafetensors, readFloats, type TensorLocation } from '../../src/weights/safetensors.ts'
import { writeSafetensors, type TensorSource } from '../../src/weights/safetensors-writer.ts'
import { noise } from '../graph/gradient/differences.ts'
import { component } from '../models/golden.ts'
import { readFixture } from '../safetensors.ts'
import { temporaryFolder } from '../weights/folder.ts'

const { config: json, tensors: base } = await component('tiny-512', 'transformer')
const options = { rank: 3, alpha: 7.5, targets: [...defaultTargets, 'ff.net.2'] }
const adapter = planLora(pixart(readPixArtConfig(json), 'plain'), options)
const tensors = new Map(
  [...loraShapes(adapter)].map(([key, shape], i): [string, TensorSource & { data: Float32Array }] => {
    const [rows = 0, columns = 0] = shape
    return [key, { dtype: 'F32', shape, data: noise(rows * columns, i) }]
  }),
)

async function written(): Promise<string> {
  const folder = join(await temporaryFolder(), 'adapter')
  await mkdir(folder)
  await writeAdapter(folder, { ...options, tensors, base: 'models/tiny' })
  return folder
}

async function valuesOf(locations: ReadonlyMap<string, TensorLocation>) {
  const read = [...locations].map(async ([key, location]) => [key, await readFloats(location)] as const)
  return new Map(await Promise.all(read))
}

test('both forms give back rank, alpha and every value', async () => {
  const folder = await written()
  const forms = [folder, join(folder, 'pytorch_lora_weights.safetensors')]
  for (const form of forms) {
    const stored = await readAdapter(form)
    expect(stored).toMatchObject({ rank: 3, alpha: 7.5 })
    const values = await valuesOf(stored.tensors)
    expect(values).toEqual(new Map([...tensors].map(([key, { data }]) => [key, data])))
  }
})

test('the keys are those of PEFT and of diffusers, with alpha where each looks for it', async () => {
  const folder = await written()
  expect((await readdir(folder)).toSorted()).toEqual([
    'adapter_config.json',
    'adapter_model.safetensors',
    'pytorch_lora_weights.safetensors',
  ])
  expect(JSON.parse(await readFile(join(folder, 'adapter_config.json'), 'utf8'))).toMatchObject({
    peft_type: 'LORA',
    r: 3,
    lora_alpha: 7.5,
    target_modules: options.targets,
    base_model_name_or_path: 'models/tiny',
  })
  const module = 'transformer_blocks.0.attn1.to_out.0'
  const peft = readFixture(join(folder, 'adapter_model.safetensors'))
  expect(peft.get(`base_model.model.${module}.lora_A.weight`)?.shape).toEqual([3, 32])
  expect(peft.get(`base_model.model.${module}.lora_B.weight`)?.shape).toEqual([32, 3])
  expect(peft.size).toBe(2 * adapter.modules.size)

  const file = join(folder, 'pytorch_lora_weights.safetensors')
  const diffusers = readFixture(file)
  expect(diffusers.get(`transformer.${module}.lora_A.weight`)?.shape).toEqual([3, 32])
  expect(diffusers.get(`transformer.${module}.alpha`)).toEqual({
    dtype: 'F32',
    shape: [],
    data: Float32Array.of(7.5),
  })
  expect(diffusers.size).toBe(3 * adapter.modules.size)
  const { metadata } = await openSafetensors(file)
  expect(JSON.parse(metadata.get('lora_adapter_metadata')!)).toMatchObject({
    'transformer.r': 3,
    'transformer.lora_alpha': 7.5,
    'transformer.target_modules': options.targets,
  })
})

test('an adapter that does not say what alpha is, or is more than a LoRA, is refused', async () => {
  const folder = await temporaryFolder()
  const file = join(folder, 'old.safetensors')
  const key = (name: string) => `base_model.model.transformer_blocks.0.attn1.to_q.${name}`
  const pair = (rank: number): [string, TensorSource][] => [
    [key('lora_A.default.weight'), { dtype: 'F32', shape: [rank, 2], data: new Float32Array(2 * rank) }],
    [key('lora_B.default.weight'), { dtype: 'F32', shape: [2, 3], data: new Float32Array(6) }],
  ]
  await writeSafetensors(file, pair(3))
  await expect(readAdapter(file)).rejects.toThrow('expected lora_alpha')
  const { alpha, rank, tensors: read } = await readAdapter(file, { alpha: 8 })
  expect({ alpha, rank }).toEqual({ alpha: 8, rank: 3 })
  expect([...read.keys()].every(isLoraKey)).toBe(true)

  await writeSafetensors(file, pair(2))
  await expect(readAdapter(file, { alpha: 8 })).rejects.toThrow('pairs of one rank, got ranks 2, 3')
  await writeSafetensors(file, [
    ...pair(3),
    [key('lora_magnitude_vector'), { dtype: 'F32', shape: [1], data: new Float32Array(1) }],
  ])
  await expect(readAdapter(file)).rejects.toThrow('lora_magnitude_vector')

  const whole = await written()
  await writeFile(
    join(whole, 'adapter_config.json'),
    JSON.stringify({ r: 3, lora_alpha: 3, use_rslora: true }),
  )
  await expect(readAdapter(whole)).rejects.toThrow('use_rslora')
})

test.each(['F32', 'BF16'] as const)(
  'merging adds scale · B·A to the weights, which stay in their type: %s',
  async (dtype) => {
    const stored = await readAdapter(await written())
    const file = join(await temporaryFolder(), 'base.safetensors')
    const module = 'transformer_blocks.1.ff.net.2'
    const before = await readFloats(base.get(`${module}.weight`)!)
    const bits = (value: number) => new Uint32Array(Float32Array.of(value).buffer)[0]! >>> 16
    const raw = dtype === 'F32' ? before : Uint16Array.from(before, bits)
    const source = { dtype, shape: base.get(`${module}.weight`)!.shape, data: raw } as TensorSource
    await writeSafetensors(file, [[`${module}.weight`, source]])
    const opened = new Map([...base, ...(await openSafetensors(file)).tensors])
    let turns = 0
    const merged = mergedTensors(opened, stored.tensors, stored, () => Promise.resolve(void (turns += 1)))
    expect([...merged.keys()].toSorted()).toEqual(
      [...adapter.modules.keys()].map((name) => `${name}.weight`).toSorted(),
    )

    const target = join(await temporaryFolder(), 'merged.safetensors')
    await writeSafetensors(target, merged)
    expect(turns).toBe(merged.size)
    const location = (await openSafetensors(target)).tensors.get(`${module}.weight`)!
    expect(location.dtype).toBe(dtype)
    const after = await readFloats(location)
    const start = await readFloats(opened.get(`${module}.weight`)!)
    const size = adapter.modules.get(module)!
    const [A, B] = [tensors.get(loraKey(module, 'A'))!.data, tensors.get(loraKey(module, 'B'))!.data]
    const precision = dtype === 'F32' ? 2 ** -24 : 2 ** -8
    for (let i = 0; i < size.out; i++) {
      for (let j = 0; j < size.in; j++) {
        let change = 0
        for (let k = 0; k < 3; k++) change += B[i * 3 + k]! * A[k * size.in + j]!
        const expected = start[i * size.in + j]! + 2.5 * change
        expect(Math.abs(after[i * size.in + j]! - expected)).toBeLessThanOrEqual(
          Math.abs(expected) * precision,
        )
      }
    }
  },
)

test('an adapter of another model is not merged', async () => {
  const stored = await readAdapter(await written())
  const other = new Map([...base].filter(([key]) => !key.includes('blocks.1.attn2.to_k')))
  expect(() => mergedTensors(other, stored.tensors, stored, () => Promise.resolve())).toThrow(
    'transformer_blocks.1.attn2.to_k: expected W (out, in), A (3, in) and B (out, 3), got W nothing',
  )
})
