/**
 * From what the transformer gives for a request's rows to the one noise prediction that its solver takes.
 * N tokens; `width` values of each are noise prediction, of `stride` in all (learned variance follows).
 */

/** Where the noise prediction lies in a row of the transformer's output. */
export interface PredictionLayout {
  /** C·p·p: values of a token that predict noise, its first ones. */
  readonly width: number
  /** Values of a token in all: twice the width when the model also predicts its variance. */
  readonly stride: number
}

/**
 * Classifier-free guidance of Ho and Salimans 2022 (arXiv 2207.12598), equation 6, in diffusers' scale (1 is no guidance):
 * out = unconditional + guidanceScale · (conditional − unconditional).
 *
 * @param conditional (N, stride)
 * @param unconditional (N, stride)
 * @param out (N, width); may be the start of either input
 */
export function guide(
  conditional: Float32Array,
  unconditional: Float32Array,
  guidanceScale: number,
  { width, stride }: PredictionLayout,
  out: Float32Array,
): void {
  checkLengths(conditional, { width, stride }, out)
  checkLengths(unconditional, { width, stride }, out)
  for (let from = 0, to = 0; to < out.length; from += stride) {
    for (let i = 0; i < width; i++, to++) {
      const without = unconditional[from + i]!
      out[to] = without + guidanceScale * (conditional[from + i]! - without)
    }
  }
}

/** The noise prediction of a row without guidance: (N, stride) → (N, width). */
export function takeNoisePrediction(
  prediction: Float32Array,
  { width, stride }: PredictionLayout,
  out: Float32Array,
): void {
  checkLengths(prediction, { width, stride }, out)
  for (let from = 0, to = 0; to < out.length; from += stride) {
    for (let i = 0; i < width; i++, to++) out[to] = prediction[from + i]!
  }
}

function checkLengths(
  prediction: Float32Array,
  { width, stride }: PredictionLayout,
  out: Float32Array,
): void {
  if (prediction.length * width !== out.length * stride || out.length % width !== 0) {
    throw new RangeError(
      `noise prediction: ${prediction.length} values in tokens of ${stride} do not give ${out.length} in tokens of ${width}`,
    )
  }
}
