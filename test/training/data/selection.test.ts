import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { bucketsFor, nearestBucket } from '../../../src/diffusion/buckets.ts'
import { selectPictures } from '../../../src/training/data/selection.ts'
import type { TrainingItem, TrainingStage } from '../../../src/training/job.ts'
import { sha256, stage } from './small-set.ts'

const itemsOf = (
  count: number,
  describe: (i: number) => Partial<TrainingItem> = () => ({}),
): TrainingItem[] =>
  Array.from({ length: count }, (_, i) => ({
    id: `item-${i}`,
    file: `/pictures/${i}.png`,
    sha256: sha256(Buffer.from(String(i))),
    width: 64,
    height: 64,
    captions: ['A caption'],
    ...describe(i),
  }))

const jobWith = (...stages: readonly Partial<TrainingStage>[]) => ({
  seed: 3,
  heldOutShare: 0.1,
  stages: stages.map((one) => ({ ...stage, ...one })),
})

const idsOf = (pictures: readonly { readonly item: TrainingItem }[]): readonly string[] =>
  pictures.map(({ item }) => item.id)

describe('held-out pictures', () => {
  test('are a share of all, at least one of eight, never all, and no other stage trains on them', () => {
    const share = fc.double({ min: 0, max: 1, noNaN: true })
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 60 }), share, fc.nat(), (count, heldOutShare, seed) => {
        const items = itemsOf(count, (i) => ({ aestheticScore: i % 7 }))
        const job = { ...jobWith({}, { minAestheticScore: 0 }), heldOutShare, seed }
        const { training, heldOut } = selectPictures(items, job, 0, 16)
        expect(training.length + heldOut.length).toBe(count)
        expect(training.length).toBeGreaterThan(0)
        const least = heldOutShare > 0 && count >= 8 ? 1 : 0
        expect(heldOut.length).toBe(Math.min(count - 1, Math.max(least, Math.floor(count * heldOutShare))))
        const second = selectPictures(items, job, 1, 16)
        expect(idsOf(second.heldOut)).toEqual(idsOf(heldOut))
      }),
    )
  })

  test('stay the same ones for a stage that sees fewer pictures', () => {
    const items = itemsOf(100, (i) => ({ aestheticScore: i % 10 }))
    const job = jobWith({}, { minAestheticScore: 5 })
    const all = selectPictures(items, job, 0, 16)
    const good = selectPictures(items, job, 1, 16)
    expect(good.training.length + good.heldOut.length).toBe(50)
    expect(idsOf(all.heldOut)).toEqual(expect.arrayContaining([...idsOf(good.heldOut)]))
    expect(good.training.every(({ item }) => item.aestheticScore! >= 5)).toBe(true)
  })

  test('are judged by no more than 128, and all the others of the share are kept from training as well', () => {
    const { training, heldOut } = selectPictures(itemsOf(2000), jobWith({}), 0, 16)
    expect([training.length, heldOut.length]).toEqual([1800, 128])
    const trained = new Set(idsOf(training))
    expect(idsOf(heldOut).filter((id) => trained.has(id))).toEqual([])
  })

  test('do not depend on the order of the manifest', () => {
    const items = itemsOf(40)
    const job = jobWith({})
    const forwards = idsOf(selectPictures(items, job, 0, 16).heldOut)
    const backwards = idsOf(selectPictures(items.toReversed(), job, 0, 16).heldOut)
    expect(backwards.toSorted()).toEqual(forwards.toSorted())
  })
})

describe('buckets', () => {
  const sizes = [
    { width: 640, height: 480 },
    { width: 480, height: 640 },
    { width: 2000, height: 400 },
    { width: 512, height: 512 },
  ]

  test('are the nearest by aspect ratio in a stage of many', () => {
    const items = itemsOf(4, (i) => sizes[i]!)
    const { training } = selectPictures(items, jobWith({ resolution: 256, multiAspect: true }), 0, 16)
    expect(training.map(({ bucket }) => bucket)).toEqual(
      sizes.map((size) => nearestBucket(bucketsFor(256), size)),
    )
  })

  test('are the square alone otherwise', () => {
    const items = itemsOf(4, (i) => sizes[i]!)
    const { training } = selectPictures(items, jobWith({ resolution: 256 }), 0, 16)
    expect(new Set(training.map(({ bucket }) => bucket))).toEqual(new Set([{ width: 256, height: 256 }]))
  })

  test('have whole patches', () => {
    const job = jobWith({ resolution: 40 })
    expect(() => selectPictures(itemsOf(4), job, 0, 16)).toThrow(
      'stage 1 (align): resolution: expected a multiple of 16 pixels, got 40',
    )
    expect(selectPictures(itemsOf(4), job, 0, 8).training).toHaveLength(4)
  })
})

test('captions are as the tokenizer takes them, without empty ones, and the empty text is that of none', () => {
  const captions = [['  A Cat ', '', ' \n'], [], ['\t'], ['One', 'TWO']]
  const items = itemsOf(4, (i) => ({ captions: captions[i]! }))
  const { training } = selectPictures(items, { ...jobWith({}), heldOutShare: 0 }, 0, 16)
  expect(training.map(({ captions }) => captions)).toEqual([['a cat'], [''], [''], ['one', 'two']])
})

test('classes are the distinct labels of the whole manifest, in order', () => {
  const labels = ['pear', 'apple', undefined, 'pear', 'zebra', 'Apple']
  const items = itemsOf(6, (i) => ({ label: labels[i], aestheticScore: i }))
  const job = jobWith({ condition: 'class', minAestheticScore: 3 })
  expect(selectPictures(items, job, 0, 16).classes).toEqual(['Apple', 'apple', 'pear', 'zebra'])
})

describe('what cannot be trained on is said in one message', () => {
  test.each([
    ['no pictures', [], {}, 'stage 1 (align): there are no pictures to train on'],
    [
      'no picture of the wanted score',
      itemsOf(4, (i) => ({ aestheticScore: i })),
      { minAestheticScore: 6 },
      'stage 1 (align): none of 4 pictures that are not held out has an aesthetic score of at least 6; the highest is 3',
    ],
    [
      'no scores',
      itemsOf(4),
      { minAestheticScore: 6 },
      'stage 1 (align): none of 4 pictures that are not held out has an aesthetic score of at least 6; none has a score',
    ],
    [
      'no captions',
      itemsOf(4, () => ({ captions: [' '] })),
      {},
      'stage 1 (align): trains on captions, and none of 4 pictures has one',
    ],
    [
      'no labels',
      itemsOf(4),
      { condition: 'class' as const, kind: 'pixel' as const },
      'stage 1 (pixel): trains on class labels, and none of 4 pictures has one',
    ],
  ])('%s', (_, items, overrides, message) => {
    const job = jobWith(overrides)
    expect(() => selectPictures(items, job, 0, 16)).toThrow(
      expect.objectContaining({ name: 'TrainingDataError', message }),
    )
  })

  test('pictures alone are enough for the autoencoder, and for a stage without text', () => {
    const items = itemsOf(4, () => ({ captions: [] }))
    expect(selectPictures(items, jobWith({ kind: 'vae' }), 0, 8).training).toHaveLength(4)
    expect(selectPictures(items, jobWith({ condition: 'none' }), 0, 16).training).toHaveLength(4)
  })
})
