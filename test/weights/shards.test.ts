import { mkdir, readdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { readTensor } from '../../src/weights/safetensors.ts'
import { writeSafetensors } from '../../src/weights/safetensors-writer.ts'
import { openWeights } from '../../src/weights/shards.ts'
import { temporaryFolder } from './folder.ts'
import { refusal } from './rejection.ts'

const save = (file: string, ...names: string[]) =>
  writeSafetensors(
    file,
    names.map((name) => [name, { dtype: 'U8', shape: [1], data: new Uint8Array([name.charCodeAt(0)]) }]),
  )

const first = 'model-00001-of-00002.safetensors'
const second = 'model-00002-of-00002.safetensors'

/** a in the first shard, b and c in the second, and whatever the index says. */
async function sharded(weightMap: unknown, index = 'model.safetensors.index.json'): Promise<string> {
  const folder = await temporaryFolder()
  await save(join(folder, first), 'a')
  await save(join(folder, second), 'b', 'c')
  await writeFile(join(folder, index), JSON.stringify({ metadata: { total_size: 3 }, weight_map: weightMap }))
  return folder
}

describe('sharded weights', () => {
  test.each(['model.safetensors.index.json', 'diffusion_pytorch_model.safetensors.index.json'])(
    '%s',
    async (index) => {
      const folder = await sharded({ a: first, c: second, b: second }, index)
      for (const path of [folder, join(folder, index)]) {
        const { tensors, files } = await openWeights(path)
        expect(files.map(({ file }) => file)).toEqual([join(folder, first), join(folder, second)])
        expect([...tensors.keys()].sort()).toEqual(['a', 'b', 'c'])
        expect(tensors.get('b')?.file).toBe(join(folder, second))
        expect([...(await readTensor(tensors.get('c')!))]).toEqual(['c'.charCodeAt(0)])
      }
    },
  )

  test('every disagreement of index and shards is named, in one error', async () => {
    const folder = await sharded({ a: second, b: second, d: first })
    const error = await refusal(openWeights(folder))
    expect(error.violation).toBe('index')
    expect(error.got).toBe(
      `missing 1: d from ${first}; in the wrong shard 1: a in ${first} instead of ${second}; not in the index 1: c in ${second}`,
    )
  })

  test('shards that are not there are all named', async () => {
    const folder = await sharded({ a: first, b: 'x.safetensors', c: 'y.safetensors' })
    const { got } = await refusal(openWeights(folder))
    expect(got).toContain(`${join(folder, 'x.safetensors')}: expected a file, got no such file`)
    expect(got).toContain(join(folder, 'y.safetensors'))
  })

  test.each([
    ['no weight_map', undefined, 'got none'],
    ['an empty one', {}, 'got an empty one'],
    ['a shard outside of the folder', { a: '../secret.safetensors' }, 'got "../secret.safetensors" for "a"'],
    ['a shard that is no name', { a: 7 }, 'got 7 for "a"'],
    ['the folder above', { a: '..' }, 'got ".." for "a"'],
  ])('an index with %s is refused', async (_what, weightMap, message) => {
    const error = await refusal(openWeights(await sharded(weightMap)))
    expect(error.violation).toBe('index')
    expect(error.message).toContain(message)
  })

  test('links into a folder of blobs are followed to real files', async () => {
    const folder = await temporaryFolder()
    const [blobs, snapshot] = [join(folder, 'blobs'), join(folder, 'snapshot')]
    await Promise.all([mkdir(blobs), mkdir(snapshot)])
    await save(join(blobs, 'aaa'), 'a')
    await save(join(blobs, 'bbb'), 'b')
    await writeFile(join(blobs, 'iii'), JSON.stringify({ weight_map: { a: first, b: second } }))
    await symlink('../blobs/aaa', join(snapshot, first))
    await symlink('../blobs/bbb', join(snapshot, second))
    await symlink('../blobs/iii', join(snapshot, 'model.safetensors.index.json'))
    const { tensors } = await openWeights(snapshot)
    expect([tensors.get('a')?.file, tensors.get('b')?.file]).toEqual([join(blobs, 'aaa'), join(blobs, 'bbb')])
  })
})

describe('which file of a folder', () => {
  const opens = async (names: string[], variant?: string) => {
    const folder = await temporaryFolder()
    for (const name of names) {
      if (name.endsWith('.json'))
        await writeFile(join(folder, name), JSON.stringify({ weight_map: { s: 'shard.safetensors' } }))
      else await save(join(folder, name), 's')
    }
    const { files } = await openWeights(folder, variant === undefined ? {} : { variant })
    expect(await readdir(folder)).toHaveLength(names.length)
    return files.map(({ file }) => file.slice(folder.length + 1)).join()
  }

  test.each([
    [['model.safetensors', 'model.fp16.safetensors'], undefined, 'model.safetensors'],
    [['model.safetensors', 'model.fp16.safetensors'], 'fp16', 'model.fp16.safetensors'],
    [['diffusion_pytorch_model.fp16.safetensors'], undefined, 'diffusion_pytorch_model.fp16.safetensors'],
    [
      ['diffusion_pytorch_model.safetensors', 'other.safetensors'],
      undefined,
      'diffusion_pytorch_model.safetensors',
    ],
    [
      ['model.safetensors', 'model.safetensors.index.json', 'shard.safetensors'],
      undefined,
      'model.safetensors',
    ],
    [
      ['model.safetensors', 'model.safetensors.index.fp16.json', 'shard.safetensors'],
      'fp16',
      'shard.safetensors',
    ],
    [
      ['model.safetensors', 'model.fp16.safetensors.index.json', 'shard.safetensors'],
      'fp16',
      'shard.safetensors',
    ],
  ])('%j, variant %s: %s', async (names, variant, expected) => {
    expect(await opens(names, variant)).toBe(expected)
  })

  test('a folder without safetensors says what it has instead', async () => {
    const folder = await temporaryFolder()
    expect((await refusal(openWeights(folder))).got).toBe('an empty folder')
    await writeFile(join(folder, 'readme.md'), '')
    expect((await refusal(openWeights(folder))).got).toBe('files 1: readme.md')
    await writeFile(join(folder, 'pytorch_model.bin'), '')
    expect((await refusal(openWeights(folder))).got).toBe('pytorch_model.bin, which is no safetensors')
  })

  test('a variant that is not there is not replaced by another', async () => {
    const folder = await temporaryFolder()
    await save(join(folder, 'model.safetensors'), 'a')
    const error = await refusal(openWeights(folder, { variant: 'fp16' }))
    expect(error.message).toContain(
      'expected diffusion_pytorch_model.fp16.safetensors or model.fp16.safetensors',
    )
  })
})
