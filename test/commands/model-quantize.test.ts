/** `atelier model quantize` as it is called, on the golden checkpoints. */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, onTestFinished, test } from 'vitest'
import { Model } from '../../src/engine/model.ts'
import { writeQuantisedCheckpoint, type QuantisationManifest } from '../../src/models/quantised-checkpoint.ts'
import { openCheckpoint } from '../../src/weights/checkpoint.ts'
import { reference, references, variants, type Variant } from '../models/golden.ts'
import { temporaryFolder } from '../weights/folder.ts'

const cli = fileURLToPath(new URL('../../src/cli.ts', import.meta.url))
const golden = (variant: Variant): string =>
  fileURLToPath(new URL(`../fixtures/golden/${variant}/checkpoint`, import.meta.url))

interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

async function atelier(...args: readonly string[]): Promise<Ended> {
  try {
    const output = await promisify(execFile)(process.execPath, [cli, 'model', 'quantize', ...args])
    return { code: 0, ...output }
  } catch (error) {
    return error as Ended
  }
}

/** Hidden states of the golden prompts. */
async function encode(folder: string, variant: Variant): Promise<Float32Array> {
  const options = { provider: 'cpu', threads: 2, cacheDir: '', lowering: 'serve', onNote: () => {} } as const
  const model = await Model.open('model', folder, options)
  await model.load()
  const tensors = references(variant)
  const [ids, mask] = [reference(tensors, 'tokens.ids'), reference(tensors, 'tokens.mask')]
  const hidden = await model.encodeText(Int32Array.from(ids.data), mask.data, ids.shape[0] ?? 0)
  await model.unload()
  return hidden
}

function cosine(a: Float32Array, b: Float32Array): number {
  const dot = (x: Float32Array, y: Float32Array): number => x.reduce((sum, each, i) => sum + each * y[i]!, 0)
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))
}

const manifestOf = async (folder: string): Promise<QuantisationManifest> =>
  JSON.parse(await readFile(join(folder, 'quantization.json'), 'utf8')) as QuantisationManifest

describe.each(variants)('%s', (variant) => {
  const { data: expected } = reference(references(variant), 'text_encoder.hidden')

  test.each([
    ['int4', 0.97, 0.079],
    ['int8', 0.9997, 0.005],
  ])(
    'a text encoder in %s opens as any checkpoint, with hidden states of cosine %d',
    async (type, atLeast, atMost) => {
      const out = join(await temporaryFolder(), 'quantised')
      const { code, stdout } = await atelier(golden(variant), out, '--text-encoder', type, '--no-report')
      expect(stdout).toMatch(
        /^text_encoder: 14 layers in [48] bits, blocks of 32: relative error 0\.0\d+, cosine/m,
      )
      expect(code).toBe(0)
      expect(cosine(await encode(out, variant), expected)).toBeGreaterThan(atLeast)

      const { components, source } = await manifestOf(out)
      const { layers = [], relativeError = 1 } = components.text_encoder ?? {}
      expect(source).toBe((await openCheckpoint(golden(variant))).version)
      expect(layers).toHaveLength(14)
      expect(layers[0]).toMatchObject({ shape: [32, 32], bits: Number(type.slice(3)) })
      expect(relativeError).toBeLessThan(atMost)
    },
  )
})

test('small checkpoints are run: hidden states, latents and pixels against the original', async () => {
  const out = join(await temporaryFolder(), 'quantised')
  const { stdout } = await atelier(golden('tiny-512'), out, '--transformer', 'int8', '--block', '16')
  expect(stdout).toMatch(/hidden states {2}cosine 1\.000000/)
  const { endToEnd } = await manifestOf(out)
  expect(endToEnd).toMatchObject({ prompts: 3, steps: 4, width: 512, height: 512 })
  const { latents, pixels } = endToEnd as { latents: { cosine: number }; pixels: { psnrDb: number } }
  expect(latents.cosine).toBeGreaterThan(0.9995)
  expect(pixels.psnrDb).toBeGreaterThan(40)
}, 60_000)

test('what is not quantised is linked, and a second component can follow the first', async () => {
  const folder = await temporaryFolder()
  const [first, second] = [join(folder, 'first'), join(folder, 'second')]
  const format = { bits: 4, blockSize: 32 } as const
  await writeQuantisedCheckpoint(await openCheckpoint(golden('tiny-512')), first, { text_encoder: format })
  await writeQuantisedCheckpoint(await openCheckpoint(first), second, { transformer: format })
  for (const file of ['vae/diffusion_pytorch_model.safetensors', 'text_encoder/model.safetensors'])
    expect((await stat(join(first, file))).ino).toBe((await stat(join(second, file))).ino)
  expect(Object.keys((await manifestOf(second)).components)).toEqual(['text_encoder', 'transformer'])
  const { textEncoder, transformer } = await openCheckpoint(second)
  expect(textEncoder.tensors.get('shared.weight')?.dtype).toBe('F16')
  expect(transformer.tensors.get('proj_out.weight')?.dtype).toBe('F32')
  expect(transformer.tensors.get('adaln_single.linear.weight')?.dtype).toBe('F32')
  expect(transformer.tensors.get('caption_projection.linear_1.weight')?.dtype).toBe('F32')
})

describe('nothing half written', () => {
  test('when it is ended while it works', async () => {
    const folder = await temporaryFolder()
    const child = spawn(process.execPath, [
      cli,
      'model',
      'quantize',
      golden('tiny-512'),
      join(folder, 'out'),
      '--text-encoder',
      'int4',
      '--report',
    ])
    onTestFinished(() => void child.kill('SIGKILL'))
    let errors = ''
    child.stderr.on('data', (text: Buffer) => (errors += text.toString()))
    await once(child.stdout, 'data')
    child.kill('SIGTERM')
    expect(await once(child, 'exit')).toEqual([1, null])
    expect(errors).toBe('atelier: interrupted by SIGTERM: nothing was written\n')
    expect(await readdir(folder)).toEqual([])
  }, 60_000)

  test('when a layer fails, or what looks at the result', async () => {
    const folder = await temporaryFolder()
    const checkpoint = await openCheckpoint(golden('tiny-512'))
    const plan = { text_encoder: { bits: 8, blockSize: 32 } } as const
    const fail = () => {
      throw new Error('no')
    }
    for (const options of [{ onLayer: fail }, { examine: fail }])
      await expect(writeQuantisedCheckpoint(checkpoint, join(folder, 'out'), plan, options)).rejects.toThrow(
        'no',
      )
    expect(await readdir(folder)).toEqual([])
  })
})

test('wrong arguments give one line', async () => {
  const folder = await temporaryFolder()
  const [taken, out] = [join(folder, 'taken'), join(folder, 'out')]
  const checkpoint = golden('tiny-512')
  await writeQuantisedCheckpoint(await openCheckpoint(checkpoint), taken, {
    text_encoder: { bits: 8, blockSize: 32 },
  })
  const lines = await Promise.all(
    [
      [checkpoint, taken, '--text-encoder', 'int4'],
      [taken, out, '--text-encoder', 'int4'],
      [checkpoint, out],
      [join(folder, 'absent'), out, '--transformer', 'int4'],
    ].map(async (args) => (await atelier(...args)).stderr),
  )
  expect(lines).toEqual([
    `atelier: ${taken}: expected a path where nothing is, got a folder\n`,
    `atelier: ${taken}/text_encoder/config.json: expected weights that are not quantised yet, got a quantization_config\n`,
    'atelier: expected --text-encoder, --transformer or both, got neither\n',
    `atelier: ${folder}/absent: expected a folder, got no such file or folder\n`,
  ])
  const { code, stderr } = await atelier(checkpoint, out, '--text-encoder', 'int4', '--block', '20')
  expect({ code, line: stderr.split('\n')[0] }).toEqual({
    code: 1,
    line: "error: option '--block <n>' argument '20' is invalid. Expected one of 16, 32, 64, 128, 256.",
  })
  expect(await readdir(folder)).toEqual(['taken'])
}, 60_000)
