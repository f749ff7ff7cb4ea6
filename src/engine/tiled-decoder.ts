/**
 * The VAE's decoder in strips: every part but the first, in little more memory than its own input and output. The picture is that
 * of the whole parts but for float32's rounding.
 *
 * Legend: B pictures, C channels, G groups, H rows, W columns, r rows of a strip.
 */
import type { LoweringName } from '../models/lowering.ts'
import { atPrecision, type Precision } from '../models/precision.ts'
import { decoderPasses, stripRows, type StripPass } from '../models/vae-tiles.ts'
import { epsilon, type VaeConfig } from '../models/vae.ts'
import type { TensorLocation } from '../weights/safetensors.ts'
import { groupStatistics } from './group-statistics.ts'
import { copyRows, StripReader, type Planes } from './planes.ts'
import { float32, Session, type SessionOptions, type Tensor } from './session.ts'

export interface TiledDecoderOptions extends SessionOptions {
  /** What the weights were made for; float32 by default. */
  readonly precision?: Precision
}

export interface StripOptions {
  /** The height of strips, of rows that come in, or what the work on one may take in memory. */
  readonly strip: { readonly rows: number } | { readonly workspaceBytes: number }
  /** Called after every strip; the next one waits for it. */
  readonly onStrip?: () => Promise<void> | void
}

export class TiledDecoder {
  readonly #parts: readonly (readonly StripPass[])[]
  readonly #groups: number
  readonly #weights: ReadonlyMap<string, TensorLocation>
  readonly #options: SessionOptions
  #computedMs = 0

  /** Opens nothing: a part's sessions, each with its copy of the weights, are there only while they run. */
  constructor(
    config: VaeConfig,
    lowering: LoweringName,
    weights: ReadonlyMap<string, TensorLocation>,
    { precision = 'float32', ...options }: TiledDecoderOptions,
  ) {
    this.#parts = decoderPasses(config, lowering).map((passes) =>
      passes.map((pass) => ({ ...pass, graph: atPrecision(pass.graph, precision) })),
    )
    this.#groups = config.groups
    this.#weights = weights
    this.#options = options
  }

  /** Milliseconds that the library's own calls took so far. */
  get computedMs(): number {
    return this.#computedMs
  }

  /**
   * What the part of this number of `vaeDecoderParts` computes: hidden (B, C, H, W) → the next part's, or the image.
   * @throws {RangeError} for the first part, which is not done in strips
   * @throws {SessionError}
   */
  async runPart(part: number, hidden: Tensor<'float32'>, options: StripOptions): Promise<Tensor<'float32'>> {
    const passes = this.#parts[part] ?? []
    if (passes.length === 0)
      throw new RangeError(`expected a part between 1 and ${this.#parts.length - 1}, got ${part}`)
    let x = hidden
    let skip = hidden
    for (const pass of passes) {
      if (pass.skip === 'kept') skip = x
      const session = await Session.open(pass.graph, this.#weights, this.#options)
      try {
        x = await this.#run(session, pass, { x, skip }, options)
      } finally {
        this.#computedMs += session.computedMs
        await session.close()
      }
    }
    return x
  }

  async #run(
    session: Session,
    pass: StripPass,
    { x, skip }: { readonly x: Tensor<'float32'>; readonly skip: Tensor<'float32'> },
    { strip, onStrip }: StripOptions,
  ): Promise<Tensor<'float32'>> {
    const [batch = 0, , height = 0, width = 0] = x.dims
    const { entering, channels, scale } = pass
    const dims = [batch, channels, scale * height, scale * width]
    // What the second pass of a residual layer reads is the first one's, and nobody else's.
    const result =
      pass.skip === 'taken' ? x : float32(new Float32Array(dims.reduce((a, b) => a * b)), ...dims)

    const most = 'rows' in strip ? strip.rows : stripRows(pass, width, strip.workspaceBytes)
    const rows = Math.ceil(height / Math.ceil(height / most))
    const entered = new Float32Array(entering * (rows + 2) * width)
    const made = new Float32Array(channels * scale * rows * scale * width)
    const skipped = new Float32Array(pass.skip === 'taken' ? skip.dims[1]! * rows * width : 0)

    for (let b = 0; b < batch; b++) {
      const source = picture(x, b)
      const target = picture(result, b)
      const held = picture(skip, b)
      const statistics = pass.normalises ? this.#statistics(source) : {}
      const reader = new StripReader(source, entered)
      for (let top = 0; top < height; top += rows) {
        const count = Math.min(rows, height - top)
        const feeds: Record<string, Tensor<'float32'>> = { ...statistics, rows: tensor(reader.take(count)) }
        if (pass.normalises) feeds.inside = rowsInside(top - 1, count + 2, height)
        if (pass.skip === 'taken') {
          const strip = part(skipped, { ...held, height: count })
          copyRows(held, top, strip, 0, count)
          feeds.skip = tensor(strip)
        }
        const output = part(made, { channels, height: scale * count, width: scale * width })
        await session.run(feeds, { into: { output: output.data } })
        copyRows(output, 0, target, scale * top, scale * count)
        await onStrip?.()
      }
    }
    return result
  }

  #statistics({ data }: Planes): Record<'mean' | 'inverse', Tensor<'float32'>> {
    const { mean, inverse } = groupStatistics(data, this.#groups, epsilon)
    return { mean: float32(mean, this.#groups, 1), inverse: float32(inverse, this.#groups, 1) }
  }
}

/** Picture b of (B, C, H, W). */
function picture(
  { data, dims: [, channels = 0, height = 0, width = 0] }: Tensor<'float32'>,
  b: number,
): Planes {
  const length = channels * height * width
  return { data: data.subarray(b * length, (b + 1) * length), channels, height, width }
}

/** Planes of that size in a buffer that may be larger. */
const part = (buffer: Float32Array, size: Omit<Planes, 'data'>): Planes => ({
  ...size,
  data: buffer.subarray(0, size.channels * size.height * size.width),
})

const tensor = ({ data, channels, height, width }: Planes): Tensor<'float32'> =>
  float32(data, 1, channels, height, width)

/** (R, 1): 1 for each row of the picture, 0 for those beyond it. */
const rowsInside = (first: number, count: number, height: number): Tensor<'float32'> =>
  float32(
    Float32Array.from({ length: count }, (_, i) => (first + i >= 0 && first + i < height ? 1 : 0)),
    count,
    1,
  )
