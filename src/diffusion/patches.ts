/**
 * Latents as the transformer sees them: patch tokens, and where in the picture each lies.
 * C channels, h × w latent pixels, p patch side, N = (h/p)·(w/p) tokens, row-major over the grid of patches.
 */

/** A picture's latents and how they are cut into patches; h and w are multiples of p. */
export interface LatentLayout {
  readonly channels: number
  /** In latent pixels. */
  readonly height: number
  readonly width: number
  readonly patchSize: number
}

/** Writes `latents` (C, h, w) as `tokens` (N, C·p·p), each token in the order (C, p, p). */
export function patchify(latents: Float32Array, layout: LatentLayout, tokens: Float32Array): void {
  checkLengths(latents, tokens, layout)
  const { channels, height, width, patchSize } = layout
  let at = 0
  for (let top = 0; top < height; top += patchSize) {
    for (let left = 0; left < width; left += patchSize) {
      for (let channel = 0; channel < channels; channel++) {
        for (let y = top; y < top + patchSize; y++) {
          const from = (channel * height + y) * width + left
          for (let x = 0; x < patchSize; x++) tokens[at++] = latents[from + x]!
        }
      }
    }
  }
}

/** Writes `tokens` (N, C·p·p) as `latents` (C, h, w): the inverse of `patchify`. */
export function unpatchify(tokens: Float32Array, layout: LatentLayout, latents: Float32Array): void {
  checkLengths(latents, tokens, layout)
  const { channels, height, width, patchSize } = layout
  let at = 0
  for (let top = 0; top < height; top += patchSize) {
    for (let left = 0; left < width; left += patchSize) {
      for (let channel = 0; channel < channels; channel++) {
        for (let y = top; y < top + patchSize; y++) {
          const to = (channel * height + y) * width + left
          for (let x = 0; x < patchSize; x++) latents[to + x] = tokens[at++]!
        }
      }
    }
  }
}

function checkLengths(latents: Float32Array, tokens: Float32Array, layout: LatentLayout): void {
  const { channels, height, width, patchSize } = layout
  if (height % patchSize !== 0 || width % patchSize !== 0) {
    throw new RangeError(`patches: ${height} x ${width} latents are not whole patches of ${patchSize}`)
  }
  const length = channels * height * width
  if (latents.length !== length || tokens.length !== length) {
    throw new RangeError(
      `patches: expected ${length} values, got ${latents.length} latents, ${tokens.length} in tokens`,
    )
  }
}

/** What places a token: the picture's grid and the one that the model's positions were made for. */
export interface PositionSettings extends Pick<LatentLayout, 'height' | 'width' | 'patchSize'> {
  /** The side, in patches, of the model's own grid: sample_size / patch_size. */
  readonly baseSize: number
  readonly interpolationScale: number
}

/**
 * Grid coordinates of every token: index / (grid / baseSize) / interpolationScale, in float32 as in diffusers'
 * get_2d_sincos_pos_embed.
 *
 * @returns (N, 2): the row's coordinate, then the column's
 */
export function gridCoordinates(settings: PositionSettings): Float32Array<ArrayBuffer> {
  const { height, width, patchSize, baseSize, interpolationScale } = settings
  const rows = height / patchSize
  const columns = width / patchSize
  const along = (index: number, count: number) =>
    Math.fround(Math.fround(index / Math.fround(count / baseSize)) / Math.fround(interpolationScale))
  const coordinates = new Float32Array(rows * columns * 2)
  for (let token = 0; token < rows * columns; token++) {
    coordinates[2 * token] = along(Math.floor(token / columns), rows)
    coordinates[2 * token + 1] = along(token % columns, columns)
  }
  return coordinates
}
