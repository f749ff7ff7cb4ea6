import { readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { gridCoordinates, unpatchify } from '../../../src/diffusion/patches.ts'
import { RandomNumbers } from '../../../src/training/data/randomness.ts'
import type { MicroBatch } from '../../../src/training/data/micro-batch.ts'
import { StageData } from '../../../src/training/data/stage-data.ts'
import type { TrainingStage } from '../../../src/training/job.ts'
import { temporaryFolder } from '../../weights/folder.ts'
import { jobOf, optionsOf, process, smallSet, stage, tokenizer } from './small-set.ts'

const some = (count: number) => Array.from({ length: count }, () => ({}))
const jobWith = (folder: string, overrides: Partial<TrainingStage>) =>
  jobOf(folder, { stages: [{ ...stage, ...overrides }] })
const floats = (micro: MicroBatch, name: string): Float32Array => {
  const tensor = micro.feeds[name]
  if (!(tensor?.data instanceof Float32Array)) throw new Error(`${name}: expected float32`)
  return tensor.data
}
const dimsOf = (micro: MicroBatch): Record<string, readonly number[]> =>
  Object.fromEntries(Object.entries(micro.feeds).map(([name, { dims }]) => [name, dims]))

/** All micro-batches of the first steps. */
async function microBatches(data: StageData, steps: number): Promise<MicroBatch[]> {
  const all: MicroBatch[] = []
  for (let step = 0; step < steps; step++) {
    for (let index = 0; index < data.microBatchesPerStep; index++) {
      all.push(await data.microBatch(step, index))
    }
  }
  return all
}

describe('a micro-batch is a function of its place', () => {
  test('the same to the bit in another instance, asked for in another order', async () => {
    const folder = await temporaryFolder()
    await smallSet(folder, some(12))
    const job = jobOf(folder)
    const forwards = await microBatches(await StageData.open(optionsOf(job)), 6)
    const other = await StageData.open(optionsOf(job))
    const backwards: MicroBatch[] = []
    for (let place = 11; place >= 0; place--) {
      backwards.unshift(await other.microBatch(Math.floor(place / 2), place % 2))
    }
    expect(backwards).toEqual(forwards)
  })

  test('the same whether its latents and texts were cached, or made on the spot', async () => {
    const folder = await temporaryFolder()
    await smallSet(folder, some(12))
    const unprepared = optionsOf({ ...jobOf(folder), cacheDir: join(folder, 'other') })
    const expected = await microBatches(await StageData.open(unprepared), 4)
    const prepared = await StageData.open(optionsOf(jobOf(folder)))
    await Array.fromAsync(prepared.prepare())
    expect(await microBatches(prepared, 4)).toEqual(expected)
  })

  test('with one bucket, a step is the same rows however it is cut', async () => {
    const folder = await temporaryFolder()
    await smallSet(folder, some(8))
    const data = await StageData.open(optionsOf(jobOf(folder, { heldOutShare: 0 })))
    const rows = async (count: number, name: string) => {
      const all = await microBatches(data.withRows(count), 3)
      return all.flatMap((micro) => [...floats(micro, name)])
    }
    for (const name of ['tokens', 'clean', 'noise', 'timestep', 'coords']) {
      const expected = await rows(1, name)
      expect(await rows(2, name)).toEqual(expected)
      expect(await rows(4, name)).toEqual(expected)
    }
  })
})

describe('what a micro-batch holds', () => {
  test('noised latents, their noise and where they lie', async () => {
    const folder = await temporaryFolder()
    const items = await smallSet(folder, [
      { width: 80, height: 40, captions: ['One'] },
      { captions: ['Two'] },
      { captions: ['Three'] },
    ])
    const job = { ...jobWith(folder, { multiAspect: true, resolution: 64 }), heldOutShare: 0 }
    const options = optionsOf(job, { rows: 1 })
    const data = await StageData.open(options)
    for (const step of [0, 1]) {
      for (let index = 0; index < 4; index++) {
        const micro = await data.microBatch(step, index)
        const item = items.find(({ id }) => id === micro.items[0])!
        expect([micro.width, micro.height]).toEqual(item.width === 80 ? [80, 48] : [64, 64])
        const [h, w] = [micro.height / 8, micro.width / 8]
        const count = (h * w) / 4
        expect(dimsOf(micro)).toEqual({
          tokens: [1, count, 16],
          clean: [1, count, 16],
          noise: [1, count, 16],
          coords: [1, count, 2],
          timestep: [1],
          text: [1, 8, 6],
          mask: [1, 8],
        })
        const place = { seed: job.seed, stage: 0, step, sample: index }
        const posterior = new Float32Array(4 * h * w)
        new RandomNumbers({ ...place, purpose: 'posterior' }).fillNormal(posterior)
        // The encoder's mean is the picture's colour, the fourth channel zero; its logvar is −4.
        const number = items.indexOf(item)
        const colour = [37, 91, 151].map((factor) => ((factor * number) % 256) / 127.5 - 1)
        const latents = new Float32Array(4 * h * w)
        const layout = { channels: 4, height: h, width: w, patchSize: 2 }
        unpatchify(floats(micro, 'clean'), layout, latents)
        for (const [i, value] of latents.entries()) {
          const mean = colour[Math.floor(i / (h * w))] ?? 0
          expect(value).toBeCloseTo(0.5 * (mean + Math.exp(-2) * posterior[i]!), 5)
        }
        const noise = new Float32Array(4 * h * w)
        new RandomNumbers({ ...place, purpose: 'noise' }).fillNormal(noise)
        expect(floats(micro, 'noise')).toEqual(noise)
        const t = floats(micro, 'timestep')[0]!
        const clean = floats(micro, 'clean')
        for (const [i, value] of floats(micro, 'tokens').entries()) {
          expect(value).toBeCloseTo(process.signal[t]! * clean[i]! + process.noise[t]! * noise[i]!, 5)
        }
        expect(floats(micro, 'coords')).toEqual(
          gridCoordinates({ height: h, width: w, patchSize: 2, baseSize: 2, interpolationScale: 1 }),
        )
      }
    }
  })

  test('texts as long as the longest, in eights; a dropped one is the empty text with its own mask', async () => {
    const folder = await temporaryFolder()
    const long = 'a long description of a picture with very many words in it'
    const items = await smallSet(folder, [{ captions: ['One'] }, { captions: [long] }])
    const job = { ...jobWith(folder, { captionDropout: 0.4, steps: 30 }), heldOutShare: 0 }
    const data = await StageData.open(optionsOf(job, { rows: 4 }))
    const tokensOf = (text: string) => tokenizer.encode(text, 120).ids.filter((id) => id !== 0)
    const seen = new Set<string>()
    for (const micro of await microBatches(data, 30)) {
      const mask = floats(micro, 'mask')
      const text = floats(micro, 'text')
      const [, T = 0] = micro.feeds['mask']!.dims
      const lengths = micro.items.map((id, row) => {
        const length = mask.subarray(row * T, (row + 1) * T).reduce((a, b) => a + b, 0)
        // A hidden state of these tests is its token's number, six times.
        const ids = Array.from({ length }, (_, i) => text[(row * T + i) * 6]!)
        const { captions } = items.find((item) => item.id === id)!
        const known = ['', captions[0]!.toLowerCase()].find((one) => tokensOf(one).join() === ids.join())
        expect(known).toBeDefined()
        expect(mask.subarray(row * T, row * T + length).every((bit) => bit === 1)).toBe(true)
        seen.add(known!)
        return length
      })
      expect(T).toBe(Math.ceil(Math.max(...lengths) / 8) * 8)
    }
    expect(seen).toEqual(new Set(['', 'one', long]))
  })

  test('ids in place of texts where the text encoder is trained, and nothing is encoded', async () => {
    const folder = await temporaryFolder()
    await smallSet(folder, some(4))
    const options = optionsOf(jobWith(folder, { trainTextEncoder: true, captionDropout: 0 }), {
      rows: 4,
    })
    const data = await StageData.open(options)
    await Array.fromAsync(data.prepare())
    const micro = await data.microBatch(0, 0)
    const { ids, mask, text } = micro.feeds
    expect(text).toBeUndefined()
    expect(options.encoded.texts).toEqual([])
    expect(ids).toMatchObject({ dtype: 'int32', dims: mask!.dims })
    const [, T = 0] = ids!.dims
    for (const [row, id] of micro.items.entries()) {
      const expected = tokenizer.encode(`a picture of number ${id.slice('item-'.length)}`, T)
      expect(ids!.data.subarray(row * T, (row + 1) * T)).toEqual(expected.ids)
      expect(mask!.data.subarray(row * T, (row + 1) * T)).toEqual(expected.mask)
    }
  })

  test('numbers of classes; one beyond the last for a dropped or missing label', async () => {
    const folder = await temporaryFolder()
    const items = await smallSet(folder, [{ label: 'b' }, { label: 'a' }, {}, { label: 'c' }])
    const options = optionsOf(
      { ...jobWith(folder, { condition: 'class', captionDropout: 0.3, steps: 40 }), heldOutShare: 0 },
      { rows: 4 },
    )
    const data = await StageData.open(options)
    expect(data.classes).toEqual(['a', 'b', 'c'])
    const seen = new Map<string, Set<number>>()
    for (const micro of await microBatches(data, 40)) {
      expect(Object.keys(micro.feeds)).not.toContain('text')
      expect(micro.feeds['class']).toMatchObject({ dtype: 'int32', dims: [4] })
      for (const [row, id] of micro.items.entries()) {
        seen.set(id, (seen.get(id) ?? new Set()).add(micro.feeds['class']!.data[row]!))
      }
    }
    expect(items.map(({ id }) => [...seen.get(id)!].toSorted((a, b) => a - b))).toEqual([
      [1, 3],
      [0, 3],
      [3],
      [2, 3],
    ])
    expect(options.encoded.texts).toEqual([])
  })

  test('the empty text for every picture of a stage without text', async () => {
    const folder = await temporaryFolder()
    await smallSet(folder, some(4))
    const options = optionsOf(jobWith(folder, { condition: 'none' }))
    const micro = await (await StageData.open(options)).microBatch(0, 0)
    expect(micro.feeds['mask']!.data).toEqual(Float32Array.of(1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0))
    expect(options.encoded.texts).toHaveLength(1)
  })

  test("the picture's own height and width, and its bucket's ratio, where the model is told", async () => {
    const folder = await temporaryFolder()
    await smallSet(folder, [{ width: 80, height: 40 }])
    const job = jobWith(folder, { multiAspect: true, resolution: 64, batchSize: 2 })
    const options = optionsOf(job)
    const data = await StageData.open({ ...options, layout: { ...options.layout, microConditioned: true } })
    const { feeds } = await data.microBatch(0, 0)
    expect(feeds['resolution']).toEqual({
      dtype: 'float32',
      data: Float32Array.of(40, 80, 40, 80),
      dims: [2, 2],
    })
    expect(feeds['aspect_ratio']).toEqual({ dtype: 'float32', data: Float32Array.of(0.6, 0.6), dims: [2, 1] })
  })

  test('pictures and noise for the autoencoder', async () => {
    const folder = await temporaryFolder()
    const items = await smallSet(folder, some(3))
    const options = optionsOf({ ...jobWith(folder, { kind: 'vae' }), heldOutShare: 0 })
    const data = await StageData.open(options)
    expect(await Array.fromAsync(data.prepare())).toEqual([])
    const micro = await data.microBatch(2, 1)
    expect(dimsOf(micro)).toEqual({ image: [2, 3, 32, 32], noise: [2, 4, 4, 4] })
    const image = floats(micro, 'image')
    for (const [row, id] of micro.items.entries()) {
      const number = items.findIndex((item) => item.id === id)
      for (const [channel, factor] of [37, 91, 151].entries()) {
        const plane = image.subarray((3 * row + channel) * 1024, (3 * row + channel + 1) * 1024)
        expect(plane).toEqual(new Float32Array(1024).fill(((factor * number) % 256) / 127.5 - 1))
      }
    }
    expect(options.encoded).toEqual({ images: [], texts: [] })
    expect(new Set(floats(micro, 'noise')).size).toBe(128)
  })
})

test('over many steps, timesteps are uniform and a tenth of the captions is dropped: within 5 standard deviations', async () => {
  const folder = await temporaryFolder()
  await smallSet(
    folder,
    Array.from({ length: 20 }, () => ({ captions: ['One', 'Two', 'Three'] })),
  )
  const job = { ...jobWith(folder, { batchSize: 20, steps: 300 }), heldOutShare: 0 }
  const options = optionsOf(job, { rows: 20 })
  const data = await StageData.open(options)
  const [draws, deciles, captions] = [6000, new Float64Array(10), new Map<number, number>()]
  for (const micro of await microBatches(data, 300)) {
    for (const t of floats(micro, 'timestep')) deciles[Math.floor(t / 100)]! += 1
    const [, T = 0] = micro.feeds['text']!.dims
    const text = floats(micro, 'text')
    for (let row = 0; row < 20; row++) {
      const first = text[row * T * 6]!
      captions.set(first, (captions.get(first) ?? 0) + 1)
    }
  }
  const within = (count: number, share: number): void =>
    expect(Math.abs(count - draws * share)).toBeLessThan(5 * Math.sqrt(draws * share * (1 - share)))
  for (const count of deciles) within(count, 0.1)
  const firstOf = (text: string): number => tokenizer.encode(text, 120).ids[0]!
  within(captions.get(firstOf(''))!, 0.1)
  for (const caption of ['one', 'two', 'three']) within(captions.get(firstOf(caption))!, 0.3)
})

describe('held-out pictures', () => {
  test('come in buckets, each alike every time, at timesteps that are spread evenly', async () => {
    const folder = await temporaryFolder()
    const shapes = Array.from({ length: 60 }, (_, i) => (i % 3 === 0 ? { width: 80, height: 40 } : {}))
    const items = await smallSet(folder, shapes)
    const job = { ...jobWith(folder, { multiAspect: true }), heldOutShare: 0.4 }
    const data = await StageData.open(optionsOf(job))
    expect([data.pictures, data.heldOutPictures]).toEqual([36, 24])
    const before = await Array.fromAsync(data.heldOut())
    await microBatches(data, 3)
    expect(await Array.fromAsync(data.heldOut())).toEqual(before)
    expect(await Array.fromAsync((await StageData.open(optionsOf(job))).heldOut())).toEqual(before)

    const judged = before.flatMap((micro) => micro.items)
    expect(new Set(judged).size).toBe(24)
    const trained = (await microBatches(data, 20)).flatMap((micro) => micro.items)
    expect(judged.filter((id) => trained.includes(id))).toEqual([])
    const timesteps = before.flatMap((micro) => [...floats(micro, 'timestep')])
    expect(timesteps.toSorted((a, b) => a - b)).toEqual(
      Array.from({ length: 24 }, (_, i) => Math.floor(((i + 0.5) / 24) * 1000)),
    )
    for (const micro of before) {
      expect(micro.rows).toBeLessThanOrEqual(2)
      expect(floats(micro, 'timestep')).toHaveLength(micro.rows)
      for (const id of micro.items) {
        const { width } = items.find((item) => item.id === id)!
        expect(width === 80).toBe(micro.width > micro.height)
      }
    }
  })

  test('are judged at several timesteps each where there are few, by their first captions and mean latents', async () => {
    const folder = await temporaryFolder()
    await smallSet(
      folder,
      Array.from({ length: 8 }, () => ({ captions: ['One', 'Two'] })),
    )
    const data = await StageData.open(optionsOf(jobOf(folder)))
    expect(data.heldOutPictures).toBe(1)
    const all = await Array.fromAsync(data.heldOut())
    expect(all.reduce((sum, { rows }) => sum + rows, 0)).toBe(16)
    const noises = all.flatMap((micro) => [0, 1].map((row) => floats(micro, 'noise')[row * 64]))
    expect(new Set(noises).size).toBe(16)
    const number = Number(all[0]!.items[0]!.slice('item-'.length))
    const red = ((37 * number) % 256) / 127.5 - 1
    for (const micro of all) {
      expect(floats(micro, 'clean')[0]).toBeCloseTo(0.5 * red, 6)
      expect(floats(micro, 'text')[0]).toBe(tokenizer.encode('one', 120).ids[0])
    }
  })

  test('are none when no share is wanted', async () => {
    const folder = await temporaryFolder()
    await smallSet(folder, some(20))
    const data = await StageData.open(optionsOf(jobOf(folder, { heldOutShare: 0 })))
    expect(data.heldOutPictures).toBe(0)
    expect(await Array.fromAsync(data.heldOut())).toEqual([])
  })
})

describe('what is encoded', () => {
  test('is what the stage draws, once for all jobs, and nothing during training', async () => {
    const folder = await temporaryFolder()
    await smallSet(folder, some(30))
    const job = jobOf(folder, { heldOutShare: 0, stages: [{ ...stage, steps: 3 }] })
    const first = optionsOf(job)
    const data = await StageData.open(first)
    const progress = await Array.fromAsync(data.prepare())
    const { done, of } = progress.at(-1)!
    expect(done).toBe(of)
    expect(first.encoded.images).toHaveLength(12)
    expect(first.encoded.texts.length).toBeLessThanOrEqual(13)
    expect(of).toBe(12 + first.encoded.texts.length)
    await microBatches(data, 3)
    expect(first.encoded.images).toHaveLength(12)

    const again = optionsOf({ ...job, stages: [{ ...stage, steps: 3 }] })
    await Array.fromAsync((await StageData.open(again)).prepare())
    expect(again.encoded).toEqual({ images: [], texts: [] })
  })

  test('is enough for every size of micro-batch', async () => {
    const folder = await temporaryFolder()
    await smallSet(
      folder,
      Array.from({ length: 40 }, (_, i) => ({
        width: 40 + 10 * (i % 7),
        captions: [`One ${i}`, `Two ${i}`, `Three ${i}`],
      })),
    )
    for (const steps of [2, 3, 6]) {
      const job = jobWith(folder, { multiAspect: true, batchSize: 12, steps })
      const options = optionsOf({ ...job, cacheDir: join(folder, `cache-${steps}`) }, { rows: 1 })
      const data = await StageData.open(options)
      await Array.fromAsync(data.prepare())
      const { images, texts } = options.encoded
      const prepared = [images.length, texts.length]
      expect(images.length).toBeLessThanOrEqual(40)
      for (const rows of [1, 2, 3, 4, 6, 12]) await microBatches(data.withRows(rows), steps)
      expect([images.length, texts.length]).toEqual(prepared)
    }
  })

  test('is kept under what it was made with: other weights or another size are encoded anew', async () => {
    const folder = await temporaryFolder()
    await smallSet(folder, some(4))
    const prepare = async (overrides: Parameters<typeof optionsOf>[1], size: Partial<TrainingStage> = {}) => {
      const options = optionsOf({ ...jobWith(folder, size), heldOutShare: 0 }, overrides)
      await Array.fromAsync((await StageData.open(options)).prepare())
      return [options.encoded.images.length, options.encoded.texts.length]
    }
    expect(await prepare({})).toEqual([4, 5])
    expect(await prepare({})).toEqual([0, 0])
    expect(await prepare({ versions: { vae: 'other', text: 'text' } })).toEqual([4, 0])
    expect(await prepare({ versions: { vae: 'vae', text: 'other' } })).toEqual([0, 5])
    expect(await prepare({}, { resolution: 64 })).toEqual([4, 0])
  })

  test('is made anew where a file of the cache is damaged, and the micro-batch is the same', async () => {
    const folder = await temporaryFolder()
    await smallSet(folder, some(4))
    const job = jobOf(folder, { heldOutShare: 0 })
    const data = await StageData.open(optionsOf(job))
    await Array.fromAsync(data.prepare())
    const expected = await microBatches(data, 2)
    const cached = await readdir(job.cacheDir, { recursive: true })
    let damaged = 0
    for (const name of cached) {
      const file = join(job.cacheDir, name)
      if (!(await stat(file)).isFile()) continue
      damaged += 1
      const bytes = await readFile(file)
      bytes[bytes.length - 2]! ^= 255
      await writeFile(file, bytes)
      if (damaged % 2 === 0) await truncate(file, 30)
    }
    expect(damaged).toBe(9)
    const options = optionsOf(job)
    expect(await microBatches(await StageData.open(options), 2)).toEqual(expected)
    expect(options.encoded.images).toHaveLength(4)
  })

  test('is not cached when it is not finite', async () => {
    const folder = await temporaryFolder()
    await smallSet(folder, some(4))
    const options = optionsOf(jobOf(folder))
    const overflowing = {
      ...options.encode,
      image: async () => ({ mean: new Float32Array(64).fill(Infinity), logvar: new Float32Array(64) }),
    }
    const data = await StageData.open({ ...options, encode: overflowing })
    await expect(Array.fromAsync(data.prepare())).rejects.toThrow(
      /^picture item-\d .*expected finite numbers/,
    )
    await expect(readdir(join(folder, 'cache'))).rejects.toThrow('ENOENT')
  })
})

describe('bad data', () => {
  test.each(['align', 'vae'] as const)(
    'a picture that is truncated when a %s stage comes to it is named',
    async (kind) => {
      const folder = await temporaryFolder()
      const items = await smallSet(folder, some(6))
      const data = await StageData.open(optionsOf({ ...jobWith(folder, { kind }), heldOutShare: 0 }))
      await truncate(items[2]!.file, 60)
      await expect(microBatches(data, 3)).rejects.toThrow(
        expect.objectContaining({
          name: 'TrainingDataError',
          message: `picture item-2 (${items[2]!.file}): the file is no longer what it was when the job was made`,
        }),
      )
    },
  )

  test('a set without pictures is one clear error', async () => {
    const folder = await temporaryFolder()
    await smallSet(folder, [])
    await expect(StageData.open(optionsOf(jobOf(folder)))).rejects.toThrow(
      'stage 1 (align): there are no pictures to train on',
    )
  })
})
