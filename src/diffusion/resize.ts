/** From the decoded bucket to the picture that was asked for: resize, centre-crop, and eight bits a channel. */

interface Size {
  readonly width: number
  readonly height: number
}

/**
 * Scales a picture so that it covers `to`, bilinearly (pixel centres at halves, no antialiasing), and cuts out the
 * middle: diffusers' resize_and_crop_tensor with torch's F.interpolate. Where int(side · ratio) falls one short of the
 * wanted side through rounding, which breaks the crop there, the wanted side is taken.
 *
 * @param image (3, from.height, from.width)
 * @returns (3, to.height, to.width); the input itself when the sizes are equal
 */
export function resizeAndCrop(
  image: Float32Array<ArrayBuffer>,
  from: Size,
  to: Size,
): Float32Array<ArrayBuffer> {
  checkImage(image, from)
  if (from.width === to.width && from.height === to.height) return image
  const ratio = Math.max(to.height / from.height, to.width / from.width)
  const columns = sampleAxis(from.width, ratio, to.width)
  const rows = sampleAxis(from.height, ratio, to.height)
  const out = new Float32Array(3 * to.height * to.width)
  let at = 0
  for (let channel = 0; channel < 3; channel++) {
    for (let y = 0; y < to.height; y++) {
      const above = (channel * from.height + rows.low[y]!) * from.width
      const below = (channel * from.height + rows.high[y]!) * from.width
      const down = rows.weight[y]!
      for (let x = 0; x < to.width; x++) {
        const left = columns.low[x]!
        const right = columns.high[x]!
        const across = columns.weight[x]!
        const top = image[above + left]! * (1 - across) + image[above + right]! * across
        const bottom = image[below + left]! * (1 - across) + image[below + right]! * across
        out[at++] = top * (1 - down) + bottom * down
      }
    }
  }
  return out
}

/** For each wanted pixel of one axis: the two that it lies between, and how far it is from the lower one. */
function sampleAxis(from: number, ratio: number, wanted: number) {
  const resized = Math.max(wanted, Math.trunc(from * ratio))
  const start = Math.floor((resized - wanted) / 2)
  const scale = Math.fround(from / resized)
  const low = new Int32Array(wanted)
  const high = new Int32Array(wanted)
  const weight = new Float32Array(wanted)
  for (let i = 0; i < wanted; i++) {
    const source = Math.max(0, Math.fround(Math.fround(scale * (start + i + 0.5)) - 0.5))
    low[i] = Math.min(Math.floor(source), from - 1)
    high[i] = Math.min(low[i]! + 1, from - 1)
    weight[i] = source - low[i]!
  }
  return { low, high, weight }
}

/**
 * diffusers' VaeImageProcessor: x/2 + ½ clamped to 0 … 1, times 255, rounded with halves to even, in float32.
 *
 * @param image (3, height, width), −1 … 1
 * @returns (height, width, 3), RGB
 */
export function toPixels(image: Float32Array, size: Size): Uint8Array<ArrayBuffer> {
  checkImage(image, size)
  const plane = size.width * size.height
  // A clamped array rounds halves to even when it is written to (ECMA-262, ToUint8Clamp), as numpy does.
  const pixels = new Uint8ClampedArray(3 * plane)
  for (let channel = 0; channel < 3; channel++) {
    for (let i = 0; i < plane; i++) {
      const unit = Math.fround(image[channel * plane + i]! / 2 + 0.5)
      pixels[3 * i + channel] = Math.fround(Math.min(Math.max(unit, 0), 1) * 255)
    }
  }
  return new Uint8Array(pixels.buffer)
}

function checkImage(image: Float32Array, { width, height }: Size): void {
  if (image.length !== 3 * width * height) {
    throw new RangeError(`image: expected 3 x ${height} x ${width} values, got ${image.length}`)
  }
}
