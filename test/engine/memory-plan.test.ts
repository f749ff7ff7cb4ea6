import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { maxPromptTokens, openTextEncoder, openTransformer, openVae } from '../../src/models/components.ts'
import { denoiseBytesPerRowToken, memoryInput, rowContextBytes } from '../../src/engine/memory-needs.ts'
import { describePlan, planMemory, type MemoryInput, type MemoryPlan } from '../../src/engine/memory-plan.ts'
import { bucketsFor } from '../../src/diffusion/buckets.ts'
import { openCheckpoint } from '../../src/weights/checkpoint.ts'

const mib = 2 ** 20
const gib = 2 ** 30

/** PixArt-XL at 1024 px with a text encoder of 4 bits, in round numbers. */
const input: MemoryInput = {
  weightBytes: { textEncoder: 2800 * mib, transformer: 2300 * mib, decoder: 300 * mib },
  encodeBytes: 80 * mib,
  decode: { wholeBytesPerPixel: 3840, tiledBytesPerPixel: 1920 },
  denoise: { bytesPerRowToken: 92_160, callBytes: 64 * mib },
  maxPixels: 1024 ** 2,
  maxTokens: 4096,
  baseBytes: 700 * mib,
  limitBytes: undefined,
  machineBytes: 24 * gib,
}
/** Two rows of 4096 tokens: 720 MiB and the call's 64. */
const call = 784 * mib

/** By how much the process grows at most in calls as large as the plan allows, all of them made, over what is there without a model. */
function reached({
  textEncoder,
  maxPrompts,
  maxRowTokens,
  wholeDecodeMaxPixels,
  maxDecodePixels,
}: MemoryPlan): number {
  const encode = (2800 + 40 * maxPrompts) * mib
  const denoise = (2300 + 300 + 64) * mib + 92_160 * maxRowTokens
  const strips = wholeDecodeMaxPixels < 1024 ** 2 ? (1920 + 256) * mib : 0
  const decode = Math.max(strips, 3840 * Math.min(wholeDecodeMaxPixels, 1024 ** 2), 3840 * maxDecodePixels)
  return textEncoder === 'stays' ? encode + denoise + decode : Math.max(encode, denoise + decode)
}

describe('without a limit', () => {
  test('all stays and decodes are whole', () => {
    const plan = planMemory(input)
    expect(plan).toMatchObject({ fits: true, textEncoder: 'stays', wholeDecodeMaxPixels: Infinity })
    expect(plan).toMatchObject({ maxPrompts: Infinity, maxRowTokens: Infinity })
    // Pictures of a batch take together what one decode may: half of the machine.
    expect(plan.maxDecodePixels).toBe(Math.floor((12 * gib) / 3840))
    expect(plan.peakBytes.denoise).toBe((700 + 2800 + 2300 + 300 + 80) * mib + call)
    expect(plan.peakBytes.decode).toBe(plan.peakBytes.denoise + 3840 * mib)
    expect(plan.shortage).toBeUndefined()
  })

  test('a decode that would take more than half of the machine is done in strips, and smaller ones are not', () => {
    const plan = planMemory({ ...input, machineBytes: 4 * gib })
    expect(plan).toMatchObject({ fits: true, textEncoder: 'stays' })
    expect(plan.wholeDecodeMaxPixels).toBe(Math.floor((2 * gib) / 3840))
    expect(plan.peakBytes.decode).toBe(plan.peakBytes.denoise + (1920 + 256) * mib)
  })
})

describe('as the limit falls', () => {
  const standing = (700 + 2800 + 2300 + 300 + 80 + 784) * mib
  const others = (700 + 2300 + 300 + 784) * mib

  test.each([
    { limitBytes: standing + 3840 * mib, textEncoder: 'stays', whole: Infinity },
    // Strips cost less time than a text encoder that comes back for every prompt.
    { limitBytes: standing + 2176 * mib, textEncoder: 'stays', whole: Math.floor((2176 * mib) / 3840) },
    { limitBytes: others + 3840 * mib, textEncoder: 'leaves', whole: Infinity },
    { limitBytes: others + 2176 * mib, textEncoder: 'leaves', whole: Math.floor((2176 * mib) / 3840) },
  ])('at $limitBytes bytes the text encoder $textEncoder', ({ limitBytes, textEncoder, whole }) => {
    const plan = planMemory({ ...input, limitBytes })
    expect(plan).toMatchObject({ fits: true, textEncoder, wholeDecodeMaxPixels: whole })
    expect(Math.max(...Object.values(plan.peakBytes))).toBe(limitBytes)
    expect(plan.maxRowTokens).toBe(8192)
  })

  test('one byte less than the least does not fit, and the shortage says how much does', () => {
    const plan = planMemory({ ...input, limitBytes: others + 2176 * mib - 1 })
    expect(plan.fits).toBe(false)
    expect(plan.shortage?.neededBytes).toBe(others + 2176 * mib)
    expect(planMemory({ ...input, limitBytes: plan.shortage?.neededBytes }).fits).toBe(true)
  })

  test('what a limit leaves is there for more rows', () => {
    const limitBytes = standing + 3840 * mib + 92_160 * 1000
    expect(planMemory({ ...input, limitBytes }).maxRowTokens).toBe(8192 + 1000)
  })

  test('under any limit a plan keeps no more than 16 rows, so that it leaves room for other models', () => {
    const plan = planMemory({ ...input, limitBytes: 100 * gib })
    expect(plan).toMatchObject({ maxPrompts: 16, maxRowTokens: 16 * 4096, maxDecodePixels: 1024 ** 2 })
    expect(plan.ownBytes.working).toBe(reached(plan))
    expect(plan.ownBytes.working).toBeLessThan(16 * gib)
  })

  test('the largest calls that a plan allows keep within the limit, all of them together', () => {
    const limits = Array.from({ length: 176 }, (_, i) => gib + i * 64 * mib)
    const plans = limits.map((limitBytes) => planMemory({ ...input, limitBytes })).filter(({ fits }) => fits)
    expect(plans.length).toBeGreaterThan(90)
    for (const plan of plans) {
      expect(plan.maxPrompts).toBeGreaterThanOrEqual(2)
      expect(plan.maxRowTokens).toBeGreaterThanOrEqual(8192)
      expect(700 * mib + reached(plan)).toBeLessThanOrEqual(plan.limitBytes!)
      expect(plan.ownBytes.working).toBe(reached(plan))
      expect(plan.ownBytes.idle).toBeLessThan(plan.ownBytes.working)
    }
  })

  test('every plan that fits keeps all peaks within the limit, and more memory never makes it worse', () => {
    let before = -1
    const rank = (plan: ReturnType<typeof planMemory>): number =>
      !plan.fits ? 0 : plan.textEncoder === 'leaves' ? (plan.wholeDecodeMaxPixels < 1024 ** 2 ? 1 : 2) : 3
    for (let limitBytes = gib; limitBytes < 12 * gib; limitBytes += 64 * mib) {
      const plan = planMemory({ ...input, limitBytes })
      expect(Math.max(...Object.values(plan.peakBytes)) <= limitBytes).toBe(plan.fits)
      expect(rank(plan)).toBeGreaterThanOrEqual(before)
      before = rank(plan)
    }
  })
})

test('what a row takes whatever its tokens is within what its tokens are counted for, in every bucket', async () => {
  const checkpoint = await openCheckpoint(fileURLToPath(new URL('../../models/tiny', import.meta.url)))
  const serve = { lowering: 'serve', precision: 'float32' } as const
  const text = openTextEncoder(checkpoint.textEncoder, serve)
  const transformer = openTransformer(checkpoint.transformer, serve)
  const vae = openVae(checkpoint.vae, serve)
  const { denoise } = memoryInput({ text, transformer, vae }, undefined)
  const context = rowContextBytes(transformer.config, maxPromptTokens)
  for (const { width, height } of bucketsFor(512)) {
    const tokens = (width / 16) * (height / 16)
    const row = context + tokens * denoiseBytesPerRowToken(transformer.config)
    expect(tokens * denoise.bytesPerRowToken).toBeGreaterThanOrEqual(row * (1 - 1e-12))
  }
})

test('where strips take more than a whole decode, the shortage is that of the whole one', () => {
  const small = { ...input, decode: { wholeBytesPerPixel: 10, tiledBytesPerPixel: 10 } }
  const needed = planMemory({ ...small, limitBytes: 1 }).shortage?.neededBytes ?? 0
  expect(planMemory({ ...small, limitBytes: needed }).fits).toBe(true)
  expect(planMemory({ ...small, limitBytes: needed - 1 }).fits).toBe(false)
})

describe('the advice', () => {
  test('names the model that is too large', () => {
    const textEncoder = 17_700 * mib
    const large = { ...input, weightBytes: { ...input.weightBytes, textEncoder }, limitBytes: 8 * gib }
    const plan = planMemory(large)
    expect(plan.fits).toBe(false)
    expect(plan.shortage?.neededBytes).toBe(textEncoder + (700 + 80) * mib)
    expect(plan.shortage?.advice[0]).toContain('--text-encoder int4')
  })

  test('names the size where only the decode is too much', () => {
    const plan = planMemory({ ...input, limitBytes: 5 * gib })
    expect(plan.shortage?.advice).toEqual([
      'a checkpoint of a smaller base size',
      'a higher ATELIER_MEMORY_LIMIT_MIB',
    ])
  })
})

test('a plan in words', () => {
  expect(describePlan(planMemory({ ...input, limitBytes: 7 * gib }))).toEqual([
    'memory with a limit of 7168 MiB: the text encoder leaves the memory after encoding, pictures of more than 770² pixels are decoded in strips',
    'expected peaks for a guided picture of 1024² pixels: encode 3580 MiB, denoise 4084 MiB, decode 6260 MiB',
  ])
  expect(describePlan(planMemory({ ...input, limitBytes: 3 * gib })).at(-1)).toBe(
    'this does not fit: it needs at least 6260 MiB; what would help: a text encoder of 4 bits: atelier model quantize DIR OUT --text-encoder int4; a transformer of 8 bits: atelier model quantize DIR OUT --transformer int8; a higher ATELIER_MEMORY_LIMIT_MIB',
  )
})
