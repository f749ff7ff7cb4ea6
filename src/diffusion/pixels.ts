/** From what a VAE decodes to a picture of eight bits a channel. */

interface Size {
  readonly width: number
  readonly height: number
}

/**
 * diffusers' VaeImageProcessor: x/2 + ½ clamped to 0 … 1, times 255, rounded with halves to even, in float32.
 *
 * @param image (3, height, width), −1 … 1
 * @returns (height, width, 3), RGB
 */
export function toPixels(image: Float32Array, size: Size): Uint8Array<ArrayBuffer> {
  if (image.length !== 3 * size.width * size.height) {
    throw new RangeError(`image: expected 3 x ${size.height} x ${size.width} values, got ${image.length}`)
  }
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
