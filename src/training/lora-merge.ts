/** Puts an adapter into the weights that it was trained beside: W + alpha / rank · B·A, summed in double precision, rows at a time. */
import { arrayOf, bytesPerElement, isFloat } from '../weights/dtypes.ts'
import { fromFloat32, toFloat32 } from '../weights/floats.ts'
import { isFloatLocation, readChunks, readFloats, type TensorLocation } from '../weights/safetensors.ts'
import type { TensorSource } from '../weights/safetensors-writer.ts'
import { isLoraKey, LoraError, loraKey, loraScale, type LoraOptions } from './lora.ts'

/** A few milliseconds of work. */
const multiplicationsAtOnce = 4e6

/** Where an adapter's A and B lie, by their keys. */
export type LoraTensors = ReadonlyMap<string, TensorLocation>

/** Names of the modules that these tensors adapt. */
export const adaptedModules = (tensors: LoraTensors): readonly string[] => [
  ...new Set([...tensors.keys()].filter(isLoraKey).map((key) => key.replace(/\.lora_[AB]\.weight$/, ''))),
]

/**
 * All of a component's tensors with the adapter in them, each in the type that it had.
 * @param turn is awaited before each piece of the merged ones
 * @throws {LoraError} when the adapter is none of this component, or only half there
 */
export function mergedTensors(
  component: ReadonlyMap<string, TensorLocation>,
  adapter: LoraTensors,
  options: Pick<LoraOptions, 'rank' | 'alpha'>,
  turn: () => Promise<void>,
): Map<string, TensorSource> {
  const merged = new Map<string, TensorSource>()
  for (const module of adaptedModules(adapter)) {
    const key = `${module}.weight`
    const [weight, A, B] = [
      component.get(key),
      adapter.get(loraKey(module, 'A')),
      adapter.get(loraKey(module, 'B')),
    ]
    const fits =
      weight &&
      A &&
      B &&
      isFloatLocation(weight) &&
      fitting(
        [weight, A, B].map(({ shape }) => shape),
        options.rank,
      )
    if (!fits) {
      const shapes = [weight, A, B].map((each) =>
        each ? `${each.dtype} (${each.shape.join(', ')})` : 'nothing',
      )
      const got = `W ${shapes[0]}, A ${shapes[1]}, B ${shapes[2]}`
      throw new LoraError(
        `${module}: expected W (out, in), A (${options.rank}, in) and B (out, ${options.rank}), got ${got}`,
      )
    }
    const data = mergedPieces(weight, { A, B }, options, turn)
    merged.set(key, { dtype: weight.dtype, shape: weight.shape, data })
  }
  return merged
}

function fitting([W = [], A = [], B = []]: readonly (readonly number[])[], rank: number): boolean {
  const [out, width] = W
  return W.length === 2 && A.join() === [rank, width].join() && B.join() === [out, rank].join()
}

async function* mergedPieces(
  weight: TensorLocation,
  adapter: { readonly A: TensorLocation; readonly B: TensorLocation },
  options: Pick<LoraOptions, 'rank' | 'alpha'>,
  turn: () => Promise<void>,
): AsyncGenerator<Uint8Array, void, void> {
  const { dtype, shape } = weight
  if (!isFloat(dtype)) throw new LoraError(`expected a weight of floats, got ${dtype}`)
  const [, width = 0] = shape
  const { rank } = options
  const scale = loraScale(options)
  const [A, B] = [await readFloats(adapter.A), await readFloats(adapter.B)] // (rank, in), (out, rank)
  const rowsAtOnce = Math.max(1, Math.floor(multiplicationsAtOnce / (rank * width)))
  const change = new Float64Array(width)
  let row = 0
  for await (const bytes of readChunks(weight, rowsAtOnce * width * bytesPerElement[dtype])) {
    await turn()
    const values = toFloat32(arrayOf(dtype, bytes.buffer))
    for (let at = 0; at < values.length; at += width, row++) {
      change.fill(0)
      for (let k = 0; k < rank; k++) {
        const factor = scale * B[row * rank + k]!
        for (let j = 0; j < width; j++) change[j]! += factor * A[k * width + j]!
      }
      for (let j = 0; j < width; j++) values[at + j] = values[at + j]! + change[j]!
    }
    const stored = fromFloat32(dtype, values)
    yield new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength)
  }
}
