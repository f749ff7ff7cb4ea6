/**
 * Losses as values of a graph.
 *
 * Shapes: R rows, N tokens, P numbers a token (channels · patch area); B pictures, C latent channels.
 */
import { constant, scalar, type Shape, type Value } from '../graph/ir.ts'
import {
  Abs,
  Add,
  Cast,
  Clip,
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
  /** Squared error of the noise and variational bound of the learned variance (Nichol & Dhariwal 2021, unscaled): the paper's. */
  | 'variational'
  /** Squared error of the noise alone; a learned variance is left as it is. */
  | 'mse'

export interface NoiseLossOptions {
  readonly kind: NoiseLossKind
  /** γ of min-SNR weighting (Hang et al. 2023, arXiv 2303.09556): the squared error counts min(SNR, γ) / SNR. */
  readonly minSnr?: number | undefined
}

export interface NoisePrediction {
  /** The noise prediction, followed by the variance's interpolation when it is learned. */
  readonly output: Value // (R, N, P | 2·P)
  readonly noise: Value // (R, N, P)
  readonly clean: Value // (R, N, P)
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
  const { output, noise, timestep } = prediction
  const learned = output.shape.at(-1) !== noise.shape.at(-1)
  const [predicted = output, interpolation] = learned ? Split(output, { axis: -1, num_outputs: 2 }) : [output]
  const mistake = Sub(predicted, noise) // (R, N, P)
  const mse = perRow(Mul(mistake, mistake)) // (R)
  const weighted =
    minSnr === undefined
      ? mse
      : Mul(
          mse,
          atTimestep(
            process.signalToNoise.map((snr) => Math.min(snr, minSnr) / snr),
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
  const bound = variationalBound(
    { mistake: detach(mistake), interpolation, clean: prediction.clean, timestep },
    process,
    detach,
  )
  return { loss: mean(Add(weighted, bound)), mse, bound, detached }
}

/** The same value, through which nothing is differentiated. */
type Detach = (value: Value) => Value

/**
 * Kullback–Leibler divergence of the posterior q(xₜ₋₁|xₜ, x₀) from the model's step, and for t = 0 the negative log-likelihood of
 * x₀ in bins of 2/255; both in bits per dimension. The means differ by a multiple of the noise's mistake alone.
 */
function variationalBound(
  {
    mistake,
    interpolation,
    clean,
    timestep,
  }: {
    readonly mistake: Value
    readonly interpolation: Value
    readonly clean: Value
    readonly timestep: Value
  },
  process: DiffusionProcess,
  detach: Detach,
): Value {
  const [least, most] = [process.leastLogVariance, process.mostLogVariance]
  const perRowNumber = (table: Float64Array): Value => Unsqueeze(atTimestep(table, timestep), [1, 2]) // (R, 1, 1)
  const share = Add(Mul(interpolation, scalar(0.5)), scalar(0.5))
  // ln of the model's variance over the posterior's
  const excess = Mul(share, perRowNumber(most.map((value, t) => value - least[t]!))) // (R, N, P)
  const logVariance = Add(excess, perRowNumber(least))
  const apart = Mul(mistake, perRowNumber(process.meanPerNoise)) // difference of the means
  const divergence = Mul(
    Add(Add(Sub(excess, scalar(1)), Exp(Neg(excess))), Mul(Mul(apart, apart), Exp(Neg(logVariance)))),
    scalar(0.5),
  )
  const likelihood = binLogLikelihood({ clean, apart, logDeviation: Mul(logVariance, scalar(0.5)) }, detach)
  const first = Equal(timestep, scalar(0)) // (R)
  return Div(Where(first, Neg(perRow(likelihood)), perRow(divergence)), scalar(Math.LN2)) // (R)
}

interface Bin {
  readonly clean: Value // (R, N, P)
  readonly apart: Value // (R, N, P)
  readonly logDeviation: Value // (R, N, P)
}

/** ln of the probability that a normal variable, whose mean is `clean − apart`, falls in the bin of `clean`. */
function binLogLikelihood({ clean, apart, logDeviation }: Bin, detach: Detach): Value {
  const inverse = Exp(Neg(logDeviation))
  const below = (edge: number): Value => normalCdf(Mul(inverse, Add(apart, scalar(edge))), detach)
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

export interface VaeTerms {
  /** Pictures, decoded and as they should be. */
  readonly decoded: Value // (B, 3, H, W)
  readonly image: Value // (B, 3, H, W)
  readonly mean: Value // (B, C, h, w)
  readonly logvar: Value // (B, C, h, w)
}

export interface VaeLoss {
  readonly loss: Value // ()
  readonly mse: Value // ()
  /** The mean over pictures of the divergence from the normal distribution, summed over latents (Kingma & Welling 2014). */
  readonly kl: Value // ()
}

/** Reconstruction plus `klWeight` times the divergence. */
export function vaeLoss({ decoded, image, mean: code, logvar }: VaeTerms, klWeight: number): VaeLoss {
  const mistake = Sub(decoded, image)
  const mse = mean(Mul(mistake, mistake))
  const terms = Sub(Sub(Add(Mul(code, code), Exp(logvar)), scalar(1)), logvar)
  const kl = mean(Mul(ReduceSum(terms, [1, 2, 3], { keepdims: 0 }), scalar(0.5)))
  return { loss: Add(mse, Mul(kl, scalar(klWeight))), mse, kl }
}

const axesOf = (shape: Shape, from: number): number[] =>
  shape.flatMap((_, axis) => (axis < from ? [] : [axis]))
const mean = (x: Value): Value => ReduceMean(x, axesOf(x.shape, 0), { keepdims: 0 })
const perRow = (x: Value): Value => ReduceMean(x, axesOf(x.shape, 1), { keepdims: 0 })
