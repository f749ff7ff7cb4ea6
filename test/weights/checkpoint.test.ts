import { createHash } from 'node:crypto'
import { cp, glob, mkdir, open, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import { describe, expect, test } from 'vitest'
import { openCheckpoint, openComponent } from '../../src/weights/checkpoint.ts'
import { temporaryFolder } from './folder.ts'
import { refusal } from './rejection.ts'

const golden = (name: string) => new URL(`../fixtures/golden/${name}/checkpoint`, import.meta.url).pathname

async function copy(name = 'tiny-512'): Promise<string> {
  const folder = join(await temporaryFolder(), 'checkpoint')
  await cp(golden(name), folder, { recursive: true })
  return folder
}

/** As huggingface_hub lays its cache out: files are links into blobs/, named by their hash. */
async function hubCache(): Promise<{ cache: string; snapshot: string }> {
  const cache = join(await temporaryFolder(), 'models--PixArt-alpha--tiny')
  const snapshot = join(cache, 'snapshots', '0123abcd')
  await mkdir(join(cache, 'refs'), { recursive: true })
  await mkdir(join(cache, 'blobs'))
  await writeFile(join(cache, 'refs', 'main'), '0123abcd')
  for await (const name of glob('**/*.*', { cwd: golden('tiny-512') })) {
    const bytes = await readFile(join(golden('tiny-512'), name))
    const blob = join(cache, 'blobs', createHash('sha256').update(bytes).digest('hex'))
    const link = join(snapshot, name)
    await writeFile(blob, bytes)
    await mkdir(dirname(link), { recursive: true })
    await symlink(relative(dirname(link), blob), link)
  }
  return { cache, snapshot }
}

describe('a checkpoint in the diffusers layout', () => {
  test.each([
    ['tiny-512', 57],
    ['tiny-1024-ms', 65],
  ])('%s: components, configs and tensors', async (name, transformerTensors) => {
    const checkpoint = await openCheckpoint(golden(name))
    expect(checkpoint.transformer).toMatchObject({
      name: 'transformer',
      config: { patch_size: 2, num_layers: 2 },
    })
    expect(checkpoint.transformer.tensors.size).toBe(transformerTensors)
    expect(checkpoint.textEncoder.config).toMatchObject({ d_model: 32, feed_forward_proj: 'gated-gelu' })
    expect(checkpoint.textEncoder.tensors.get('shared.weight')?.shape).toEqual([2000, 32])
    expect(checkpoint.vae.tensors.size).toBe(180)
    expect(checkpoint.vae.config.scaling_factor).toBe(0.18215)
    expect(checkpoint.scheduler.config).toMatchObject({ lambda_min_clipped: -Infinity, beta_end: 0.02 })
    expect(checkpoint.tokenizer.folder).toBe(join(golden(name), 'tokenizer'))
    expect(checkpoint.version).toMatch(/^[0-9a-f]{16}$/)
  })

  test('a hub cache of links gives real files only, by its root and by its snapshot', async () => {
    const { cache, snapshot } = await hubCache()
    for (const path of [cache, snapshot]) {
      const { transformer, textEncoder, vae, folder } = await openCheckpoint(path)
      expect(folder).toBe(snapshot)
      for (const { file } of [transformer, textEncoder, vae].flatMap(({ tensors }) => [
        ...tensors.values(),
      ])) {
        expect(dirname(file)).toBe(join(cache, 'blobs'))
      }
    }
  })

  test('a revision that refs/main names and that is not there', async () => {
    const { cache } = await hubCache()
    await writeFile(join(cache, 'refs', 'main'), 'ffff')
    expect((await refusal(openCheckpoint(cache))).message).toContain(
      'expected the revision ffff under snapshots/, got 0123abcd',
    )
  })

  test('all that is missing or wrong stands in one error', async () => {
    const folder = await copy()
    await rm(join(folder, 'vae'), { recursive: true })
    await rm(join(folder, 'transformer', 'config.json'))
    await writeFile(join(folder, 'scheduler', 'scheduler_config.json'), '[]')
    await rm(join(folder, 'tokenizer', 'spiece.model'))
    await writeFile(
      join(folder, 'text_encoder', 'model.safetensors'),
      'version https://git-lfs.github.com/spec/v1',
    )
    await writeFile(join(folder, 'model_index.json'), '{"_class_name": "FluxPipeline"}')
    const { violation, message } = await refusal(openCheckpoint(folder))
    expect(violation).toBe('layout')
    expect(message.split('\n').map((line) => line.replaceAll(folder, ''))).toEqual([
      ': expected a checkpoint in the diffusers layout, got 6 problems:',
      '  /model_index.json: expected _class_name PixArtAlphaPipeline, got "FluxPipeline"',
      '  /transformer/config.json: expected a file, got no such file or folder',
      expect.stringMatching(/^ {2}\/text_encoder\/model.safetensors: .*Git LFS pointer/),
      '  /vae: expected a folder, got no such file or folder',
      '  /scheduler/scheduler_config.json: expected an object, got JSON of another kind',
      '  /tokenizer: expected spiece.model or tokenizer.json, got tokenizer_config.json',
    ])
  })

  test('one problem is told as it is', async () => {
    const folder = await copy()
    await rm(join(folder, 'vae', 'config.json'))
    expect((await refusal(openCheckpoint(folder))).message).toBe(
      `${folder}/vae/config.json: expected a file, got no such file or folder`,
    )
  })

  test('a pipeline without one of its parts', async () => {
    const folder = await copy()
    const index = JSON.parse(await readFile(join(folder, 'model_index.json'), 'utf8')) as object
    await writeFile(join(folder, 'model_index.json'), JSON.stringify({ ...index, vae: [null, null] }))
    expect((await refusal(openCheckpoint(folder))).got).toBe('none for vae')
  })

  test('a component opens alone', async () => {
    const folder = new URL('../fixtures/golden/tiny-512/dit/transformer', import.meta.url).pathname
    const component = await openComponent(folder)
    expect(component).toMatchObject({ name: 'transformer', folder, configFile: join(folder, 'config.json') })
    expect(component.tensors.size).toBe(44)
  })
})

describe('the version', () => {
  test('is the same for the same bytes elsewhere, and for a cache of links', async () => {
    const { version } = await openCheckpoint(golden('tiny-512'))
    expect((await openCheckpoint(await copy())).version).toBe(version)
    expect((await openCheckpoint((await hubCache()).cache)).version).toBe(version)
    expect((await openCheckpoint(golden('tiny-1024-ms'))).version).not.toBe(version)
  })

  test.each([
    'transformer/config.json',
    'scheduler/scheduler_config.json',
    'tokenizer/spiece.model',
    'tokenizer/tokenizer_config.json',
  ])('changes with %s', async (name) => {
    const folder = await copy()
    const { version } = await openCheckpoint(folder)
    const file = join(folder, name)
    await writeFile(file, Buffer.concat([await readFile(file), Buffer.from('\n')]))
    expect((await openCheckpoint(folder)).version).not.toBe(version)
  })

  test('changes with the weights of any tensor', async () => {
    const folder = await copy()
    const versions = new Set([(await openCheckpoint(folder)).version])
    const { transformer } = await openCheckpoint(folder)
    const some = [...transformer.tensors.values()].filter((_, i) => i % 10 === 0)
    for (const { file, offset, length } of some) {
      const handle = await open(file, 'r+')
      await handle.write(new Uint8Array([0x55]), 0, 1, offset + Math.floor(length / 2))
      await handle.close()
      versions.add((await openCheckpoint(folder)).version)
    }
    expect(versions.size).toBe(some.length + 1)
  })

  test('does not depend on the name of the folder', async () => {
    const folder = await copy()
    expect(basename(folder)).toBe('checkpoint')
    const other = join(dirname(folder), 'other')
    await cp(folder, other, { recursive: true })
    expect((await openCheckpoint(other)).version).toBe((await openCheckpoint(folder)).version)
  })
})
