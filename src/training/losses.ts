/**
 * Losses as values of a graph.
 *
 * Shapes: R rows, N tokens, P numbers a token (channels · patch area); B pictures, C latent channels.
 */
import { constant, knownAxis, scalar, type Shape, type Value } from '../graph/ir.ts'
import {
  Abs,
  Add,
  Cast,
  Clip,
  Conv,
  Div,
  Equal,
  Exp,
  Gather,
  Greater,
  Identity,
  Less,
  Log,
  Mul,
  Neg,
  ReduceMean,
  ReduceSum,
  Sign,
  Split,
  Sub,
  Unsqueeze,
  Where,
} from '../graph/ops.ts'
import type { DiffusionProcess } from './diffusion-process.ts'

export type NoiseLossKind =
  /** Squared error of what is predicted and variational bound of the learned variance (Nichol & Dhariwal 2021, unscaled): the paper's. */
  | 'variational'
  /** Squared error of what is predicted alone; a learned variance is left as it is. */
  | 'mse'

export interface NoiseLossOptions {
  readonly kind: NoiseLossKind
  /**
   * γ of min-SNR weighting (Hang et al. 2023, arXiv 2303.09556): the squared error counts min(SNR, γ) / SNR where the noise is
   * predicted, and min(SNR, γ) / (SNR + 1) where the velocity is.
   */
  readonly minSnr?: number | undefined
}

export interface NoisePrediction {
  /** The noise or the velocity as the model has it, followed by the variance's interpolation when it is learned. */
  readonly output: Value // (R, N, P | 2·P)
  readonly noise: Value // (R, N, P)
  readonly clean: Value // (R, N, P)
  /** The clean latents with that noise at the timestep. */
  readonly noised: Value // (R, N, P)
  /** Whole numbers from 0. */
  readonly timestep: Value // (R) float32
}

export interface NoiseLoss {
  readonly loss: Value // ()
  readonly mse: Value // (R)
  /** Bits per dimension; undefined when the variance is not learned or not trained. */
  readonly bound: Value | undefined // (R)
  /** What must not be differentiated through: the bound trains the variance, not the mean. */
  readonly detached: ReadonlySet<Value>
}

/** The mean over rows of the terms of each row. */
export function noiseLoss(
  prediction: NoisePrediction,
  process: DiffusionProcess,
  { kind, minSnr }: NoiseLossOptions,
): NoiseLoss {
  const { output, noise, clean, noised, timestep } = prediction
  const learned = output.shape.at(-1) !== noise.shape.at(-1)
  const [predicted = output, interpolation] = learned ? Split(output, { axis: -1, num_outputs: 2 }) : [output]
  const at = (table: Float64Array): Value => overTokens(table, timestep)
  const isVelocity = process.predictionType === 'v_prediction'
  const target = isVelocity ? Sub(Mul(noise, at(process.signal)), Mul(clean, at(process.noise))) : noise
  const mistake = Sub(predicted, target) // (R, N, P)
  const mse = perRow(Mul(mistake, mistake)) // (R)
  const weighted =
    minSnr === undefined
      ? mse
      : Mul(
          mse,
          atTimestep(
            process.signalToNoise.map((snr) => Math.min(snr, minSnr) / (isVelocity ? snr + 1 : snr)),
            timestep,
          ),
        )
  if (kind === 'mse' || interpolation === undefined) {
    return { loss: mean(weighted), mse, bound: undefined, detached: new Set() }
  }
  const detached = new Set<Value>()
  const detach: Detach = (value) => {
    const same = Identity(value)
    detached.add(same)
    return same
  }
  const predictedNoise = isVelocity
    ? Add(Mul(predicted, at(process.signal)), Mul(noised, at(process.noise)))
    : predicted
  const bound = variationalBound(
    { clean, noised, predicted: detach(predictedNoise), interpolation, timestep },
    process,
    detach,
  )
  return { loss: mean(Add(weighted, bound)), mse, bound, detached }
}

/** The same value, through which nothing is differentiated. */
type Detach = (value: Value) => Value

interface Step {
  readonly clean: Value // (R, N, P)
  readonly noised: Value // (R, N, P)
  /** The noise, as the model has it. */
  readonly predicted: Value // (R, N, P)
  /** −1 for the least variance, 1 for the most, geometrically between. */
  readonly interpolation: Value // (R, N, P)
  readonly timestep: Value // (R)
}

/**
 * Kullback–Leibler divergence of the posterior q(xₜ₋₁|xₜ, x₀) from the model's step, and for t = 0 the negative log-likelihood of
 * x₀ in bins of 2/255; both in bits per dimension. Term by term in the reference's order, whose rounding errors are larger than
 * what a gradient of the variance may be off by.
 */
function variationalBound(
  { clean, noised, predicted, interpolation, timestep }: Step,
  process: DiffusionProcess,
  detach: Detach,
): Value {
  const at = (table: Float64Array): Value => overTokens(table, timestep)
  const fromNoised = Mul(noised, at(process.meanOfNoised))
  const posteriorMean = (cleanEstimate: Value): Value =>
    Add(Mul(cleanEstimate, at(process.meanOfClean)), fromNoised)
  const estimate = Sub(Mul(noised, at(process.cleanOfNoised)), Mul(predicted, at(process.cleanOfNoise)))
  const modelMean = posteriorMean(estimate) // (R, N, P)
  const [least, most] = [at(process.leastLogVariance), at(process.mostLogVariance)]
  const share = Mul(Add(interpolation, scalar(1)), scalar(0.5))
  const logVariance = Add(Mul(share, most), Mul(Sub(scalar(1), share), least)) // (R, N, P)

  const apart = Sub(posteriorMean(clean), modelMean)
  const excess = Sub(logVariance, least)
  const terms = Add(
    Add(Sub(excess, scalar(1)), Exp(Neg(excess))),
    Mul(Mul(apart, apart), Exp(Neg(logVariance))),
  )
  const divergence = Mul(terms, scalar(0.5))
  const bin = { clean, fromMean: Sub(clean, modelMean), logDeviation: Mul(logVariance, scalar(0.5)) }
  const first = Equal(timestep, scalar(0)) // (R)
  const nats = Where(first, Neg(perRow(binLogLikelihood(bin, detach))), perRow(divergence))
  return Div(nats, scalar(Math.LN2)) // (R)
}

interface Bin {
  readonly clean: Value // (R, N, P)
  /** How far `clean` lies from the mean. */
  readonly fromMean: Value // (R, N, P)
  readonly logDeviation: Value // (R, N, P)
}

/** ln of the probability that a normal variable falls in the bin of `clean`. */
function binLogLikelihood({ clean, fromMean, logDeviation }: Bin, detach: Detach): Value {
  const inverse = Exp(Neg(logDeviation))
  const below = (edge: number): Value => normalCdf(Mul(inverse, Add(fromMean, scalar(edge))), detach)
  const [upper, lower] = [below(1 / 255), below(-1 / 255)]
  const logOf = (probability: Value): Value => Log(Clip(probability, scalar(1e-12), scalar(1)))
  // The outermost bins reach to infinity.
  return Where(
    Less(clean, scalar(-0.999)),
    logOf(upper),
    Where(Greater(clean, scalar(0.999)), logOf(Sub(scalar(1), lower)), logOf(Sub(upper, lower))),
  )
}

/** The approximation with tanh that the reference uses. */
function normalCdf(x: Value, detach: Detach): Value {
  const cubic = Add(x, Mul(Mul(Mul(x, x), x), scalar(0.044715)))
  return Mul(Add(exactTanh(Mul(cubic, scalar(Math.sqrt(2 / Math.PI))), detach), scalar(1)), scalar(0.5))
}

/**
 * tanh as PyTorch computes it, rounded to the last bit near ±1 and ±1 beyond 8.664 (SLEEF's tanhf). In the tails a bin's
 * probability is the difference of two numbers that differ in their last bits only, and ONNX Runtime's Tanh is off by up to five
 * of them. The derivative is 1 − tanh², as of Tanh itself.
 */
function exactTanh(x: Value, detach: Detach): Value {
  const size = Abs(x)
  const close = Sub(scalar(1), Div(scalar(2), Add(Exp(Mul(size, scalar(2))), scalar(1))))
  const magnitude = Where(Greater(size, scalar(8.664339742)), scalar(1), close)
  const value = detach(Mul(Sign(x), magnitude))
  const slope = Sub(scalar(1), Mul(value, value))
  return Add(value, Mul(Sub(x, detach(x)), slope)) // x − x is zero and has the derivative 1
}

/** The table's numbers at the rows' timesteps: (R). */
const atTimestep = (table: Float64Array, timestep: Value): Value =>
  Gather(constant('float32', [table.length], table), Cast(timestep, 'int64'))

/** The same for a row's tokens and numbers: (R, 1, 1). */
const overTokens = (table: Float64Array, timestep: Value): Value =>
  Unsqueeze(atTimestep(table, timestep), [1, 2])

export interface VaeWeights {
  /** Of the divergence. */
  readonly klWeight: number
  /** Of the equivariance's error; 0 leaves it out. */
  readonly equivarianceWeight: number
}

export interface VaeTerms {
  /** Pictures, decoded and as they should be. */
  readonly decoded: Value // (B, 3, H, W)
  readonly image: Value // (B, 3, H, W)
  readonly mean: Value // (B, C, h, w)
  readonly logvar: Value // (B, C, h, w)
  /** What is decoded of the latents at half their size. */
  readonly decodedHalf?: Value | undefined // (B, 3, H / 2, W / 2)
}

export interface VaeLoss {
  readonly loss: Value // ()
  readonly mse: Value // ()
  /** The mean over pictures of the divergence from the normal distribution, summed over latents (Kingma & Welling 2014). */
  readonly kl: Value // ()
  /** Squared error of the picture at half its size (Kouzelis et al. 2025, arXiv 2502.09509); undefined when it is left out. */
  readonly equivariance: Value | undefined // ()
}

/**
 * Reconstruction plus the weighted divergence, and that latents at half their size should decode to the picture at half its size:
 * then coarse latents are coarse pictures, which a diffusion learns in fewer steps.
 */
export function vaeLoss(
  { decoded, image, mean: code, logvar, decodedHalf }: VaeTerms,
  { klWeight, equivarianceWeight }: VaeWeights,
): VaeLoss {
  const mse = meanSquare(Sub(decoded, image))
  const terms = Sub(Sub(Add(Mul(code, code), Exp(logvar)), scalar(1)), logvar)
  const kl = mean(Mul(ReduceSum(terms, [1, 2, 3], { keepdims: 0 }), scalar(0.5)))
  const both = Add(mse, Mul(kl, scalar(klWeight)))
  if (decodedHalf === undefined) return { loss: both, mse, kl, equivariance: undefined }
  const equivariance = meanSquare(Sub(decodedHalf, halved(image)))
  return { loss: Add(both, Mul(equivariance, scalar(equivarianceWeight))), mse, kl, equivariance }
}

const meanSquare = (x: Value): Value => mean(Mul(x, x))

/** (B, C, H, W) → (B, C, H / 2, W / 2), each value the mean of four. */
export function halved(x: Value): Value {
  const channels = knownAxis(x, 1)
  const kernel = new Float32Array(channels * channels * 4)
  for (let c = 0; c < channels; c++) kernel.fill(0.25, c * (channels + 1) * 4, (c * (channels + 1) + 1) * 4)
  return Conv(x, constant('float32', [channels, channels, 2, 2], kernel), undefined, {
    strides: [2, 2],
    pads: [0, 0, 0, 0],
  })
}

const axesOf = (shape: Shape, from: number): number[] =>
  shape.flatMap((_, axis) => (axis < from ? [] : [axis]))
const mean = (x: Value): Value => ReduceMean(x, axesOf(x.shape, 0), { keepdims: 0 })
const perRow = (x: Value): Value => ReduceMean(x, axesOf(x.shape, 1), { keepdims: 0 })
