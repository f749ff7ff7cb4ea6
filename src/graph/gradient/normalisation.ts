/** Gradients of softmax, normalisations and reductions. g is the cotangent of the result y. */
import type { Value } from '../ir.ts'
import { Add, Div, Mul, Reciprocal, ReduceMean, ReduceSum, Sqrt, Sub, Unsqueeze } from '../ops.ts'
import type { Call, Rule } from './call.ts'
import { countAlong, expandLike, numberLike, sumTo } from './broadcast.ts'

const softmax: Rule = (call) => [
  () => {
    const [y, axis] = [call.output(), call.int('axis', -1)]
    const weighted = Mul(call.cotangent, y)
    return Sub(weighted, Mul(y, ReduceSum(weighted, [axis])))
  },
]

/** A vector of equal numbers: without parameters, the operators are given ones and zeros. */
const isFilled = (value: Value | undefined, number: number): boolean =>
  value === undefined ||
  (value.kind === 'constant' && Array.from(value.data).every((element) => element === number))

/** y = x̂ · scale + bias with x̂ = (x − mean) / deviation over the last axis. */
const layerNormalization: Rule = (call) => {
  const [x, scale, bias] = [call.input(0), call.input(1), call.node.inputs[2]]
  const [mean, inverse] = [call.output(1), call.output(2)]
  const plain = isFilled(scale, 1) && isFilled(bias, 0)
  const standard = plain ? call.output() : Mul(Sub(x, mean), inverse)
  return [
    () => {
      const g = isFilled(scale, 1) ? call.cotangent : Mul(call.cotangent, scale)
      const along = Mul(standard, ReduceMean(Mul(g, standard), [-1]))
      return Mul(Sub(Sub(g, ReduceMean(g, [-1])), along), inverse)
    },
    () => sumTo(Mul(call.cotangent, standard), scale),
    () => sumTo(call.cotangent, call.input(2)),
  ]
}

/** y = x̂ · scale with x̂ = x / √(mean(x²) + ε) over the last axis. */
const simplifiedLayerNormalization: Rule = (call) => {
  const [x, scale] = [call.input(0), call.input(1)]
  const inverse = inverseRoot(call, ReduceMean(Mul(x, x), [-1]))
  const standard = Mul(x, inverse)
  return [
    () => {
      const g = Mul(call.cotangent, scale)
      return Mul(Sub(g, Mul(standard, ReduceMean(Mul(g, standard), [-1]))), inverse)
    },
    () => sumTo(Mul(call.cotangent, standard), scale),
  ]
}

/** y = x̂ · scale + bias over all axes but batch and channels, with one number of each a channel. */
const instanceNormalization: Rule = (call) => {
  const [x, scale, bias] = [call.input(0), call.input(1), call.input(2)]
  const spatial = x.shape.slice(2).map((_, i) => i + 2)
  const perChannel = (value: Value): Value =>
    Unsqueeze(
      value,
      spatial.map((axis) => axis - 1),
    )
  const centred = Sub(x, ReduceMean(x, spatial))
  const inverse = inverseRoot(call, ReduceMean(Mul(centred, centred), spatial))
  const standard = isFilled(scale, 1) && isFilled(bias, 0) ? call.output() : Mul(centred, inverse)
  const channelSum = (value: Value): Value => ReduceSum(value, [0, ...spatial], { keepdims: 0 })
  return [
    () => {
      const g = isFilled(scale, 1) ? call.cotangent : Mul(call.cotangent, perChannel(scale))
      const along = Mul(standard, ReduceMean(Mul(g, standard), spatial))
      return Mul(Sub(Sub(g, ReduceMean(g, spatial)), along), inverse)
    },
    () => channelSum(Mul(call.cotangent, standard)),
    () => channelSum(call.cotangent),
  ]
}

const inverseRoot = (call: Call, variance: Value): Value =>
  Reciprocal(Sqrt(Add(variance, numberLike(call.float('epsilon', 1e-5), variance))))

const reduceSum: Rule = (call) => [() => expandLike(keptAxes(call), call.input(0))]

const reduceMean: Rule = (call) => [
  () => {
    const x = call.input(0)
    const count = countAlong(x, call.axes(1, x.shape.length))
    return expandLike(Div(keptAxes(call), count), x)
  },
]

/** g with the axes, of size 1, that were reduced. */
function keptAxes(call: Call): Value {
  if (call.int('keepdims', 1) === 1) return call.cotangent
  return Unsqueeze(call.cotangent, call.axes(1, call.input(0).shape.length))
}

export const normalisation = {
  InstanceNormalization: instanceNormalization,
  LayerNormalization: layerNormalization,
  ReduceMean: reduceMean,
  ReduceSum: reduceSum,
  SimplifiedLayerNormalization: simplifiedLayerNormalization,
  Softmax: softmax,
} satisfies Record<string, Rule>
