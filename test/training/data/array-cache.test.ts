import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { ArrayCache } from '../../../src/training/data/array-cache.ts'
import { KeptLoads } from '../../../src/training/data/kept-loads.ts'
import { temporaryFolder } from '../../weights/folder.ts'

const files = async (folder: string): Promise<readonly string[]> => {
  const names = await readdir(folder, { recursive: true })
  const isFile = await Promise.all(names.map(async (name) => (await stat(join(folder, name))).isFile()))
  return names.filter((_, i) => isFile[i]).map((name) => join(folder, name))
}

test('arrays are read as they were written, to the bit, under their own keys', async () => {
  const folder = await temporaryFolder()
  const cache = new ArrayCache(folder)
  const dims = fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 4 })
  const key = fc.array(fc.oneof(fc.string(), fc.integer()), { minLength: 1 })
  await fc.assert(
    fc.asyncProperty(key, dims, fc.nat(), async (key, dims, seed) => {
      const length = dims.reduce((a, b) => a * b, 1)
      const data = Float32Array.from({ length }, (_, i) => Math.sin(seed + i) * 1e10 ** Math.cos(i))
      await cache.write(key, { dims, data })
      expect(await cache.read(key)).toEqual({ dims, data })
      expect(await cache.has(key, dims)).toBe(true)
      expect(await cache.has(key, [...dims, 2])).toBe(false)
      expect(await cache.read([...key, 'other'])).toBeUndefined()
    }),
    { numRuns: 50 },
  )
  expect((await files(folder)).filter((name) => name.endsWith('.tmp'))).toEqual([])
})

test('damage anywhere is seen, and the file made anew', async () => {
  const folder = await temporaryFolder()
  const cache = new ArrayCache(folder)
  const array = { dims: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) }
  await cache.write(['key'], array)
  const [file] = await files(folder)
  const whole = await readFile(file!)
  for (let i = 0; i < whole.length; i++) {
    const damaged = Buffer.from(whole)
    damaged[i]! ^= 1 << (i % 8)
    await writeFile(file!, damaged)
    expect(await cache.read(['key'])).toBeUndefined()
    await writeFile(file!, whole.subarray(0, i))
    expect(await cache.read(['key'])).toBeUndefined()
    expect(await cache.has(['key'], array.dims)).toBe(false)
  }
  await writeFile(file!, Buffer.concat([whole, Buffer.of(0)]))
  expect(await cache.read(['key'])).toBeUndefined()
  await cache.write(['key'], array)
  expect(await cache.read(['key'])).toEqual(array)
})

test('two that write the same at once leave one whole file', async () => {
  const folder = await temporaryFolder()
  const array = { dims: [50_000], data: new Float32Array(50_000).fill(7) }
  await Promise.all(Array.from({ length: 8 }, () => new ArrayCache(folder).write(['key'], array)))
  expect(await files(folder)).toHaveLength(1)
  expect(await new ArrayCache(folder).read(['key'])).toEqual(array)
})

test('what is asked for twice at once, or was begun ahead, is loaded once', async () => {
  const asked: string[] = []
  const loads = new KeptLoads<string, number>(
    10,
    () => 4,
    async (key) => {
      asked.push(key)
      return key.length
    },
  )
  expect(await Promise.all([loads.get('a'), loads.get('a')])).toEqual([1, 1])
  loads.ahead('bb')
  expect(await loads.get('bb')).toBe(2)
  expect(await loads.get('a')).toBe(1)
  expect(asked).toEqual(['a', 'bb'])
  // Two fit: the third sends away the one that was used least recently.
  await loads.get('ccc')
  await loads.get('bb')
  expect(asked).toEqual(['a', 'bb', 'ccc', 'bb'])
})

test('what goes wrong ahead of its use is told to who asks, and tried again by the next', async () => {
  let attempts = 0
  const loads = new KeptLoads<string, number>(
    10,
    () => 4,
    async () => {
      attempts += 1
      if (attempts === 1) throw new Error('no luck')
      return 5
    },
  )
  loads.ahead('a')
  await new Promise((resolve) => setTimeout(resolve, 5))
  await expect(loads.get('a')).rejects.toThrow('no luck')
  expect(await loads.get('a')).toBe(5)
  expect(attempts).toBe(2)
})
