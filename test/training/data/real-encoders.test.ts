import { expect, test } from 'vitest'
import { unpatchify } from '../../../src/diffusion/patches.ts'
import { float32, int32 } from '../../../src/engine/session.ts'
import { readT5Config, t5Encoder } from '../../../src/models/t5.ts'
import { readVaeConfig, vaeDownsampling, vaeEncoder } from '../../../src/models/vae.ts'
import { readPicture, toPlanes } from '../../../src/training/data/pictures.ts'
import { StageData } from '../../../src/training/data/stage-data.ts'
import { component, open, parity } from '../../models/golden.ts'
import { temporaryFolder } from '../../weights/folder.ts'
import { jobOf, optionsOf, smallSet, stage, tokenizer } from './small-set.ts'

test("a micro-batch holds what the golden VAE and T5 make of the pictures and of captions as serving's pad them", async () => {
  const folder = await temporaryFolder()
  const captions = [['A Red fox on a hill'], ['two BOATS at night, oil on canvas']]
  const items = await smallSet(
    folder,
    captions.map((captions) => ({ captions, width: 90, height: 50 })),
  )
  const vae = await component('tiny-512', 'vae')
  const text = await component('tiny-512', 'text_encoder')
  const [vaeConfig, textConfig] = [readVaeConfig(vae.config), readT5Config(text.config)]
  const vaeSession = await open(vaeEncoder(vaeConfig, 'serve'), vae, { lowering: 'serve' })
  const textSession = await open(t5Encoder(textConfig, 'serve'), text, { lowering: 'serve' })

  const scale = vaeDownsampling(vaeConfig)
  const job = jobOf(folder, {
    heldOutShare: 0,
    stages: [{ ...stage, resolution: 64, multiAspect: true, batchSize: 2, captionDropout: 0 }],
  })
  const options = optionsOf(job)
  const data = await StageData.open({
    ...options,
    versions: { vae: vae.fingerprint, text: text.fingerprint },
    layout: {
      ...options.layout,
      latentChannels: vaeConfig.latentChannels,
      latentScale: scale,
      scalingFactor: vaeConfig.scalingFactor,
      captionWidth: textConfig.width,
    },
    encode: {
      image: async ({ data, dims }) => {
        const { mean, logvar } = await vaeSession.run({ image: float32(data as Float32Array, ...dims) })
        return { mean: mean!.data as Float32Array, logvar: logvar!.data as Float32Array }
      },
      text: async (ids, mask) => {
        const { hidden } = await textSession.run({
          input_ids: int32(ids.data as Int32Array, ...ids.dims),
          mask: float32(mask.data as Float32Array, ...mask.dims),
        })
        return hidden!.data as Float32Array
      },
    },
  })
  await Array.fromAsync(data.prepare())
  const micro = await data.microBatch(0, 0)
  const bucket = { width: micro.width, height: micro.height }
  expect(bucket).toEqual({ width: 80, height: 48 })
  const layout = {
    channels: vaeConfig.latentChannels,
    height: bucket.height / scale,
    width: bucket.width / scale,
    patchSize: 2,
  }
  const numbers = layout.channels * layout.height * layout.width
  const clean = micro.feeds['clean']!.data as Float32Array

  const [, T = 0, D = 0] = micro.feeds['text']!.dims
  for (const [row, id] of micro.items.entries()) {
    const item = items.find((item) => item.id === id)!
    const planes = new Float32Array(3 * bucket.width * bucket.height)
    toPlanes(await readPicture(item, bucket), planes)
    const { mean, logvar } = await vaeSession.run({
      image: float32(planes, 1, 3, bucket.height, bucket.width),
    })
    const latents = new Float32Array(numbers)
    unpatchify(clean.subarray(row * numbers, (row + 1) * numbers), layout, latents)
    // (z / scaling factor − mean) / deviation is the normal sample: of 240 numbers, none is beyond 5.
    const sample = latents.map(
      (value, i) =>
        (value / vaeConfig.scalingFactor - (mean!.data as Float32Array)[i]!) /
        Math.exp((logvar!.data as Float32Array)[i]! / 2),
    )
    expect(sample.every((value) => Math.abs(value) < 5)).toBe(true)
    expect(sample.reduce((sum, value) => sum + value ** 2, 0) / numbers).toBeGreaterThan(0.5)
    expect(sample.reduce((sum, value) => sum + value ** 2, 0) / numbers).toBeLessThan(1.5)

    const padded = tokenizer.encode(item.captions[0]!.toLowerCase(), 120)
    const { hidden } = await textSession.run({
      input_ids: int32(padded.ids, 1, 120),
      mask: float32(padded.mask, 1, 120),
    })
    const own = (micro.feeds['text']!.data as Float32Array).subarray(
      row * T * D,
      (row * T + padded.length) * D,
    )
    const served = { data: (hidden!.data as Float32Array).subarray(0, padded.length * D) }
    expect(parity(float32(own, padded.length, D), served)).toBe('within bounds')
  }
  await vaeSession.close()
  await textSession.close()
})
