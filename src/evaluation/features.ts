/**
 * The space in which pictures are compared, without a trained network: what stands out from the background is cut out, scaled to
 * 32 × 32 and described by its colours in OKLab, as differences from the background, and by histograms of its edges (Dalal and Triggs
 * 2005, CVPR). The squared distance of two descriptions is the mean squared ΔE of their pixels plus `edgeWeight` times the mean squared
 * distance of their normalised histograms.
 */
import { oklab, type Oklab } from './oklab.ts'
import type { Picture } from './picture.ts'
import { resampled, shares, type Share } from './resampling.ts'

/** Whole pixels, right and bottom not included. */
export interface Box {
  readonly left: number
  readonly top: number
  readonly right: number
  readonly bottom: number
}

export interface Seen {
  /** Median of the picture's border. */
  readonly background: Oklab
  /** Around all that stands out; undefined when nothing does. */
  readonly box: Box | undefined
  /** Of the space that this file describes; all zero when nothing stands out. */
  readonly features: Float32Array
}

const side = 32
const cellsPerSide = 4
const orientations = 8
const histogramSize = cellsPerSide ** 2 * orientations
/** Colours of 32 × 32 pixels, then histograms of 4 × 4 cells. */
export const featureCount = 3 * side ** 2 + histogramSize
const edgeWeight = 0.1

/** ΔE from the background at which something is seen at the least; more where the border is noisy. */
const leastContrast = 0.04
const noiseFactor = 3
/** Pieces of less than this share of all that stands out are specks. */
const speckShare = 0.006

export function see(picture: Picture): Seen {
  const { width, height } = picture
  const planes = oklabPlanes(picture)
  const background = borderMedian(planes, width, height)
  const [lightness, a, b] = planes.map((plane) => boxBlurred(plane, width))
  const contrast = new Float32Array(width * height)
  for (let at = 0; at < contrast.length; at++)
    contrast[at] = length(lightness![at]! - background[0], a![at]! - background[1], b![at]! - background[2])
  const threshold = Math.max(leastContrast, noiseFactor * median(borderOf(contrast, width, height)))
  const mask = withoutSpecks(
    contrast.map((value) => (value > threshold ? 1 : 0)),
    width,
    height,
  )
  const box = boxOf(mask, width, height)
  return {
    background,
    box,
    features: box ? describe(planes, mask, background, box, width, height) : nothing(),
  }
}

/** The root of the squared distance above. */
export function featureDistance(one: Float32Array, other: Float32Array): number {
  let sum = 0
  for (let at = 0; at < featureCount; at++) {
    const difference = one[at]! - other[at]!
    sum += difference * difference
  }
  return Math.sqrt(sum)
}

export interface Neighbour {
  readonly id: string
  readonly distance: number
}

/** @returns as many of the gallery, the nearest first */
export function nearest(
  features: Float32Array,
  gallery: ReadonlyMap<string, Float32Array>,
  count: number,
): readonly Neighbour[] {
  return [...gallery]
    .map(([id, each]) => ({ id, distance: featureDistance(features, each) }))
    .sort((one, other) => one.distance - other.distance)
    .slice(0, count)
}

/** Math.hypot guards against overflow, at ten times the time. */
const length = (x: number, y: number, z: number) => Math.sqrt(x * x + y * y + z * z)

const nothing = () => new Float32Array(featureCount)

function oklabPlanes({ width, height, pixels }: Picture): readonly Float32Array[] {
  const planes = [0, 1, 2].map(() => new Float32Array(width * height))
  for (let at = 0; at < width * height; at++) {
    const lab = oklab(pixels[at * 3]!, pixels[at * 3 + 1]!, pixels[at * 3 + 2]!)
    for (let channel = 0; channel < 3; channel++) planes[channel]![at] = lab[channel]!
  }
  return planes
}

function borderMedian(planes: readonly Float32Array[], width: number, height: number): Oklab {
  const [lightness, a, b] = planes.map((plane) => median(borderOf(plane, width, height)))
  return [lightness!, a!, b!]
}

/** The outermost fiftieth of a picture on each side, and two pixels at least. */
function borderOf(plane: Float32Array, width: number, height: number): number[] {
  const depth = Math.max(2, Math.round(Math.min(width, height) / 50))
  const values: number[] = []
  for (let y = 0; y < height; y++) {
    const inner = y >= depth && y < height - depth
    for (let x = 0; x < width; x += inner && x === depth - 1 ? width - 2 * depth + 1 : 1)
      values.push(plane[y * width + x]!)
  }
  return values
}

const median = (values: number[]): number => values.sort((one, other) => one - other)[values.length >> 1]!

/** Means of 3 × 3 pixels, or of as many as there are. */
function boxBlurred(plane: Float32Array, width: number): Float32Array {
  const across = new Float32Array(plane.length)
  for (let at = 0; at < plane.length; at++) {
    const x = at % width
    const before = x > 0 ? plane[at - 1]! : 0
    const after = x < width - 1 ? plane[at + 1]! : 0
    across[at] = (before + plane[at]! + after) / (1 + (x > 0 ? 1 : 0) + (x < width - 1 ? 1 : 0))
  }
  const blurred = new Float32Array(plane.length)
  for (let at = 0; at < plane.length; at++) {
    const above = at >= width ? across[at - width]! : 0
    const below = at < plane.length - width ? across[at + width]! : 0
    const count = 1 + (at >= width ? 1 : 0) + (at < plane.length - width ? 1 : 0)
    blurred[at] = (above + across[at]! + below) / count
  }
  return blurred
}

/** Leaves out pieces (four neighbours connect) that are too small. */
function withoutSpecks(mask: Float32Array, width: number, height: number): Float32Array {
  const total = mask.reduce((sum, value) => sum + value, 0)
  const kept = new Float32Array(mask.length)
  const seen = new Uint8Array(mask.length)
  for (let start = 0; start < mask.length; start++) {
    if (mask[start] === 0 || seen[start]) continue
    const piece = [start]
    seen[start] = 1
    for (const at of piece) {
      const x = at % width
      for (const next of [x > 0 ? at - 1 : -1, x < width - 1 ? at + 1 : -1, at - width, at + width]) {
        if (next < 0 || next >= width * height || seen[next] || mask[next] === 0) continue
        seen[next] = 1
        piece.push(next)
      }
    }
    if (piece.length >= Math.max(speckShare * total, 3)) for (const at of piece) kept[at] = 1
  }
  return kept
}

function boxOf(mask: Float32Array, width: number, height: number): Box | undefined {
  let [left, top, right, bottom] = [width, height, 0, 0]
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      if (mask[y * width + x]! > 0) {
        left = Math.min(left, x)
        right = Math.max(right, x + 1)
        top = Math.min(top, y)
        bottom = Math.max(bottom, y + 1)
      }
  return right > left ? { left, top, right, bottom } : undefined
}

/** The square around the box, at 32 × 32: differences from the background, and how its edges run. */
function describe(
  planes: readonly Float32Array[],
  mask: Float32Array,
  background: Oklab,
  box: Box,
  width: number,
  height: number,
): Float32Array {
  const features = nothing()
  const extent = Math.max(box.right - box.left, box.bottom - box.top)
  const origin = [(box.left + box.right - extent) / 2, (box.top + box.bottom - extent) / 2] as const
  const step = side / extent
  const columns = shares(-origin[0] * step, width * step, width, side)
  const rows = shares(-origin[1] * step, height * step, height, side)
  const colours = planes.map((plane, channel) => {
    const cut = new Float32Array(plane.length)
    for (let at = 0; at < cut.length; at++) cut[at] = mask[at]! * (plane[at]! - background[channel]!)
    return blurred(squared(resampled(cut, width, 1, columns, rows), columns, rows))
  })
  for (const [channel, colour] of colours.entries())
    for (let at = 0; at < side * side; at++) features[channel * side * side + at] = colour[at]! / side
  const histogram = edgeHistogram(colours)
  const weight = Math.sqrt(edgeWeight) / cellsPerSide
  for (let at = 0; at < histogramSize; at++) features[3 * side * side + at] = histogram[at]! * weight
  return features
}

/** Puts resampled values, of the part that lies on the picture, where they belong on 32 × 32. */
function squared(values: Float32Array, columns: readonly Share[], rows: readonly Share[]): Float32Array {
  const target = new Float32Array(side * side)
  let from = 0
  for (const { at: y } of rows) for (const { at: x } of columns) target[y * side + x] = values[from++]!
  return target
}

/** With (1, 2, 1) / 4 both ways, which forgives displacements of a pixel. */
function blurred(plane: Float32Array): Float32Array {
  const across = plane.map((value, at) => {
    const before = at % side > 0 ? plane[at - 1]! : 0
    const after = at % side < side - 1 ? plane[at + 1]! : 0
    return (before + 2 * value + after) / 4
  })
  // Beyond the first and the last row there is nothing.
  return across.map((value, at) => ((across[at - side] ?? 0) + 2 * value + (across[at + side] ?? 0)) / 4)
}

/** Of each cell: how strong edges of each direction are, in the channel where they are strongest; unit length a cell that has any. */
function edgeHistogram(colours: readonly Float32Array[]): Float32Array {
  const histogram = new Float32Array(histogramSize)
  const cell = side / cellsPerSide
  for (let y = 1; y < side - 1; y++)
    for (let x = 1; x < side - 1; x++) {
      const at = y * side + x
      let [strongest, angle] = [0, 0]
      for (const colour of colours) {
        const across = colour[at + 1]! - colour[at - 1]!
        const down = colour[at + side]! - colour[at - side]!
        const strength = length(across, down, 0)
        if (strength > strongest) [strongest, angle] = [strength, Math.atan2(down, across)]
      }
      const turn = ((angle / Math.PI + 1) % 1) * orientations
      const [lower, share] = [Math.floor(turn) % orientations, turn % 1]
      const start = (Math.floor(y / cell) * cellsPerSide + Math.floor(x / cell)) * orientations
      histogram[start + lower]! += strongest * (1 - share)
      histogram[start + ((lower + 1) % orientations)]! += strongest * share
    }
  for (let start = 0; start < histogramSize; start += orientations) {
    const part = histogram.subarray(start, start + orientations)
    const norm = Math.hypot(...part) + 0.05
    for (let at = 0; at < orientations; at++) part[at]! /= norm
  }
  return histogram
}
