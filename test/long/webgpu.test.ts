/**
 * A second provider: ONNX Runtime's WebGPU on SwiftShader, Vulkan in software as Debian's chromium-common has it, so that nothing
 * in the graphs or the engine works on the CPU provider only.
 */
import { existsSync } from 'node:fs'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { writeSyntheticCheckpoint } from '../../src/models/synthetic-checkpoint.ts'
import { runParity } from '../../src/engine/parity.ts'
import { startPool, type DeviceEvent, type ImageRequest } from '../../src/engine/pool.ts'
import { checkProvider } from '../../src/engine/provider-check.ts'
import { availableProviders } from '../../src/engine/session.ts'
import { openSafetensors, readTensor } from '../../src/weights/safetensors.ts'
import { writeSafetensors, type TensorSource } from '../../src/weights/safetensors-writer.ts'
import { smallCheckpoint } from '../bench/small-checkpoint.ts'

const driver = '/usr/lib/chromium/vk_swiftshader_icd.json'
const missing = existsSync(driver)
  ? undefined
  : `NOT TESTED: there is no ${driver}; apt-get install --no-install-recommends chromium-common libvulkan1`
if (missing === undefined) process.env.VK_ICD_FILENAMES = driver
else console.warn(`WebGPU: ${missing}`)

const golden = fileURLToPath(new URL('../fixtures/golden/tiny-512', import.meta.url))
/** The smallest model, at a base size of 256. */
const small = 'small'
const device = { name: 'webgpu', device: { provider: 'webgpu' } } as const
/** Which of the fused operators are wrong here, and what is done about it. */
const fallback =
  /^the fused operators of webgpu disagree with the plain ones .*self-attention by .*; the plain ones are used$/

let folder: string

describe.skipIf(missing)(`WebGPU over SwiftShader${missing ? ` (${missing})` : ''}`, () => {
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'atelier-webgpu-'))
  })
  afterAll(() => rm(folder, { recursive: true }))

  test('its fused attention is wrong, its other fused operators are right, and the plain ones are chosen', async () => {
    expect(availableProviders()).toContain('webgpu')
    const check = await checkProvider({ provider: 'webgpu', threads: 0 })
    expect(check.lowering).toBe('plain')
    expect(check).toHaveProperty('reason', expect.stringMatching(/self-attention by .*, cross-attention by /))
    expect(check).toHaveProperty(
      'reason',
      expect.not.stringMatching(/GELU|SiLU|normalisation|standardisation/),
    )
  })

  test('every stage agrees with diffusers', async () => {
    const reference = join(folder, 'reference')
    await writeReference(reference)
    const notes: string[] = []
    const { comparisons, uncompared } = await runParity(
      reference,
      { ...device, cacheDir: folder },
      { onNote: (note) => notes.push(note) },
    )
    const off = ({ name, maxAbsolute, maxRelative }: (typeof comparisons)[number]): string =>
      `${name} ${maxAbsolute.toExponential(1)} ${maxRelative.toExponential(1)}`
    console.log(comparisons.map(off).join('\n'))
    expect(notes).toEqual([expect.stringMatching(fallback)])
    expect(comparisons.length).toBeGreaterThan(14)
    expect(comparisons.filter(({ isWithin }) => !isWithin).map(off)).toEqual([])
    expect(uncompared).toEqual([])
  })

  test('a device process on it makes the picture that one on the CPU makes', async () => {
    const models = [{ name: small, folder: join(folder, small) }]
    await writeSyntheticCheckpoint(join(folder, small), smallCheckpoint)
    const request: ImageRequest = {
      id: 'one',
      model: small,
      prompt: 'two red cats, one blue bird',
      negativePrompt: 'blurry',
      width: 256,
      height: 256,
      seed: 1,
      seedIndex: 0,
      steps: 4,
      guidanceScale: 4.5,
      scheduler: 'dpm++_2m',
      cleanCaption: false,
      priority: 'normal',
    }
    const generate = async (options: typeof device | typeof cpu) => {
      const events: DeviceEvent[] = []
      const pool = await startPool([{ ...options, models, cacheDir: folder }], (event) => events.push(event))
      try {
        return { result: await pool.generate(request), events }
      } finally {
        await pool.close()
      }
    }
    const cpu = { name: 'cpu', device: { provider: 'cpu' } } as const
    const { result, events } = await generate(device)
    const { result: expected } = await generate(cpu)
    expect(events).toContainEqual(
      expect.objectContaining({ kind: 'note', message: expect.stringMatching(fallback) as string }),
    )
    expect(result.receipt.device).toBe('webgpu')
    const apart = result.pixels.filter((value, i) => Math.abs(value - expected.pixels[i]!) > 1).length
    expect(apart / expected.pixels.length).toBeLessThanOrEqual(1e-3)
  })
})

/** The golden references, but of whole runs only the shortest, and no pictures: SwiftShader takes minutes for one of 512². */
async function writeReference(to: string): Promise<void> {
  await cp(join(golden, 'checkpoint'), join(to, 'checkpoint'), { recursive: true })
  const { runs, ...description } = JSON.parse(
    await readFile(join(golden, 'golden.json'), 'utf8'),
  ) as Readonly<{ runs: readonly unknown[]; prompts: readonly string[] }>
  await writeFile(join(to, 'golden.json'), JSON.stringify({ ...description, runs: [runs[shortest]] }))
  const { tensors } = await openSafetensors(join(golden, 'golden.safetensors'))
  const kept: [string, TensorSource][] = []
  for (const [name, tensor] of tensors) {
    const { run, part } = /^run(?<run>\d+)\.(?<part>.*)/.exec(name)?.groups ?? {}
    if (run !== undefined && (Number(run) !== shortest || part === 'image')) continue
    const { dtype, shape } = tensor
    kept.push([
      part === undefined ? name : `run0.${part}`,
      { dtype, shape, data: await readTensor(tensor) } as TensorSource,
    ])
  }
  await writeSafetensors(join(to, 'golden.safetensors'), kept)
}

/** Three steps without guidance. */
const shortest = 2
