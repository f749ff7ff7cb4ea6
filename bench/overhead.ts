/** The cost of the service: how much of a request's time is spent in anything but the model itself. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { writeSyntheticCheckpoint, type SyntheticCheckpoint } from '../src/models/synthetic-checkpoint.ts'
import type { SchemaGeneratedImages, SchemaImage } from '../src/sdk/schema.ts'
import { summarise, type Benchmark, type Figure } from './report.ts'
import { startService } from './service.ts'
import { temporaryFolder } from './temporary-folder.ts'
import { transformerConfig } from './transformer-config.ts'

type Options = Readonly<Record<'generations' | 'steps' | 'blocks' | 'threads', number>>

const sharePercent = 'share of the service'

export const overhead: Benchmark<Options> = {
  name: 'overhead',
  description:
    'time outside session.run as a share of a generation at 512 px with a model of PixArt-XL width',
  options: {
    generations: { description: 'how many are measured', fallback: 7 },
    steps: { description: 'denoising steps of each', fallback: 20 },
    blocks: { description: 'transformer blocks (PixArt-XL has 28)', fallback: 2 },
    threads: { description: "the device's threads; 0 takes one per core", fallback: 0 },
  },
  async run({ generations, steps, blocks, threads }, tell) {
    const folder = temporaryFolder()
    const [model, dataDir] = [join(folder, 'pixart-xl-wide'), join(folder, 'data')]
    tell('writing a checkpoint of random weights')
    await writeSyntheticCheckpoint(model, pixartXlWide(blocks))
    await mkdir(dataDir)
    tell('starting the service')
    await using service = await startService({ dataDir, model, threads })
    tell('warming up')
    await generate(service.address, { seed: 0, steps })
    const measured: Measurement[] = []
    for (let seed = 1; seed <= generations; seed++) {
      const measurement = await generate(service.address, { seed, steps })
      measured.push(measurement)
      tell(`generation ${seed} of ${generations}: ${measurement.totalMs.toFixed(0)} ms`)
    }
    const shares = measured.map((one) => (100 * restOf(one)) / one.totalMs)
    return {
      method: [
        `${generations} generations after one to warm up, one after the other: 512 × 512, ${steps} steps, guidance, PNG; each with a prompt of its own.`,
        `Model: random weights, ${blocks} blocks of PixArt-XL's width (16 heads × 72, captions 4096 wide), one layer of text encoder and a`,
        'VAE of 8 to 16 channels: a full text encoder and VAE would only add to session.run, and so lower the share.',
        'Total: from before the POST to the last byte of the picture, which a second request fetches.',
      ],
      figures: [...figures(measured), { name: sharePercent, unit: '%', values: shares }],
      requirements: [{ what: sharePercent, value: summarise(shares).median, unit: '%', atMost: 3 }],
    }
  },
}

interface Measurement {
  /** From before the POST to the last byte of the picture. */
  readonly totalMs: number
  /** From before the POST to the last byte of its answer. */
  readonly answerMs: number
  readonly timings: SchemaImage['timings']
}

async function generate(
  address: string,
  { seed, steps }: { readonly seed: number; readonly steps: number },
): Promise<Measurement> {
  const body = JSON.stringify({
    prompt: `lighthouse number ${seed} on a cliff at dawn`,
    size: '512x512',
    seed,
    steps,
  })
  const startedMs = performance.now()
  const answer = await fetchWhole(`${address}/v1/images/generations`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body,
  })
  const answeredMs = performance.now()
  const { data } = parse(answer) as SchemaGeneratedImages
  const { id, url } = data[0]!
  await fetchWhole(url!)
  const doneMs = performance.now()
  const { timings } = parse(await fetchWhole(`${address}/v1/images/${id}`)) as SchemaImage
  return { totalMs: doneMs - startedMs, answerMs: answeredMs - startedMs, timings }
}

async function fetchWhole(url: string, init: RequestInit = {}): Promise<Uint8Array> {
  const response = await fetch(url, init)
  const bytes = await response.bytes()
  if (!response.ok) throw new Error(`${url}: ${response.status} ${new TextDecoder().decode(bytes)}`)
  return bytes
}

const parse = (json: Uint8Array): unknown => JSON.parse(new TextDecoder().decode(json))

const restOf = ({ totalMs, timings }: Measurement): number => totalMs - timings.compute_ms

function figures(measured: readonly Measurement[]): Figure[] {
  const milliseconds = (name: string, of: (measurement: Measurement) => number): Figure => ({
    name,
    unit: 'ms',
    values: measured.map(of),
  })
  const onDevice = ({ timings }: Measurement) => timings.encode_ms + timings.denoise_ms + timings.decode_ms
  return [
    milliseconds('total', ({ totalMs }) => totalMs),
    milliseconds('session.run', ({ timings }) => timings.compute_ms),
    milliseconds('the rest', restOf),
    milliseconds('  waiting for the device', ({ timings }) => timings.wait_ms),
    milliseconds(
      '  device: text, noise, solver, guidance, pixels',
      (one) => onDevice(one) - one.timings.compute_ms,
    ),
    milliseconds(
      '  HTTP, database, queue, device messages, PNG, disk',
      (one) => one.answerMs - one.timings.wait_ms - onDevice(one),
    ),
    milliseconds('  fetching the picture', ({ totalMs, answerMs }) => totalMs - answerMs),
  ]
}

/** PixArt-XL/2 at 512 px, but for its number of blocks and what is said of text encoder and VAE above. */
function pixartXlWide(blocks: number): SyntheticCheckpoint {
  const captionWidth = 4096
  return {
    transformer: transformerConfig({ heads: 16, headWidth: 72, blocks, captionWidth }),
    textEncoder: {
      vocab_size: 2000,
      d_model: captionWidth,
      d_kv: 64,
      d_ff: 1024,
      num_layers: 1,
      num_heads: 8,
      feed_forward_proj: 'gated-gelu',
    },
    vae: {
      in_channels: 3,
      out_channels: 3,
      latent_channels: 4,
      block_out_channels: [8, 16, 16, 16],
      layers_per_block: 1,
      norm_num_groups: 4,
      act_fn: 'silu',
      down_block_types: Array.from({ length: 4 }, () => 'DownEncoderBlock2D'),
      up_block_types: Array.from({ length: 4 }, () => 'UpDecoderBlock2D'),
      scaling_factor: 0.18215,
    },
    tokenizer: fileURLToPath(
      new URL('../test/fixtures/golden/tiny-512/checkpoint/tokenizer', import.meta.url),
    ),
    seed: 1,
  }
}
