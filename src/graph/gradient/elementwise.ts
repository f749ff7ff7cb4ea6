/** Gradients of the operators that work element by element. g is the cotangent of the result y. */
import type { Value } from '../ir.ts'
import * as ops from '../ops.ts'
import type { Call, Contribution, Rule } from './call.ts'
import { filledLike, numberLike, sumTo } from './broadcast.ts'

const { Add, Cos, Div, Equal, Exp, Greater, Less, Log, Mul, Neg, Pow, Sigmoid, Sign, Sin, Sub, Where } = ops

const scaled = (x: Value, factor: number): Value => Mul(x, numberLike(factor, x))

/** 1 − x */
const complement = (x: Value): Value => Sub(numberLike(1, x), x)

/** Of one input, from x, y and g. */
const unary =
  (gradient: (g: Value, x: Value, y: Value) => Value): Rule =>
  (call) => [() => gradient(call.cotangent, call.input(0), call.output())]

/** Of two inputs that are broadcast against each other. */
const binary =
  (left: (g: Value, a: Value, b: Value, y: Value) => Value, right: typeof left): Rule =>
  (call) => {
    const [a, b, y] = [call.input(0), call.input(1), call.output()]
    return [() => sumTo(left(call.cotangent, a, b, y), a), () => sumTo(right(call.cotangent, a, b, y), b)]
  }

/** Where the condition holds g, elsewhere 0. */
const masked = (condition: Value, g: Value): Value => Where(condition, g, numberLike(0, g))
const maskedOut = (condition: Value, g: Value): Value => Where(condition, numberLike(0, g), g)

/** Of the smaller or larger; equal ones share it evenly. */
const extremum = (chosen: (a: Value, b: Value) => Value): Rule => {
  const share = (g: Value, a: Value, b: Value): Value =>
    Where(Equal(a, b), scaled(g, 0.5), masked(chosen(a, b), g))
  return binary(share, (g, a, b) => share(g, b, a))
}

const pow: Rule = (call) => {
  const [x, exponent] = [call.input(0), call.input(1)]
  const ofBase = (): Value => {
    const g = call.cotangent
    if (exponent.kind === 'constant' && exponent.data.length === 1 && exponent.data[0] === 2)
      return scaled(Mul(g, x), 2)
    return sumTo(Mul(Mul(g, exponent), Pow(x, Sub(exponent, numberLike(1, exponent)))), x)
  }
  // xⁿ ln x, which tends to 0 with x.
  const ofExponent = (): Value =>
    sumTo(Mul(call.cotangent, masked(Greater(x, numberLike(0, x)), Mul(call.output(), Log(x)))), exponent)
  return [ofBase, ofExponent]
}

const clip = (call: Call): readonly Contribution[] => {
  const [x, low, high] = [call.input(0), call.input(1), call.input(2)]
  return [() => maskedOut(Less(x, low), maskedOut(Greater(x, high), call.cotangent))]
}

const where: Rule = (call) => {
  const [condition, yes, no] = [call.input(0), call.input(1), call.input(2)]
  return [
    undefined,
    () => sumTo(masked(condition, call.cotangent), yes),
    () => sumTo(maskedOut(condition, call.cotangent), no),
  ]
}

/** d/dx of x · Φ(x): Φ(x) + x · φ(x), with the normal distribution's Φ and density φ. */
function exactGelu(g: Value, x: Value): Value {
  const cumulative = Add(scaled(ops.Erf(scaled(x, Math.SQRT1_2)), 0.5), numberLike(0.5, x))
  const density = scaled(Exp(scaled(Mul(x, x), -0.5)), 1 / Math.sqrt(2 * Math.PI))
  return Mul(g, Add(cumulative, Mul(x, density)))
}

/**
 * The tanh approximation is y = x · σ(2u) with u = √(2/π) (x + 0.044715 x³), so dy/dx = σ + y (1 − σ) · 2u′.
 */
function tanhGelu(g: Value, x: Value, y: Value): Value {
  const slope = 2 * Math.sqrt(2 / Math.PI)
  const cubic = 0.044715 * slope
  const square = Mul(x, x)
  const sigma = Sigmoid(Mul(x, Add(scaled(square, cubic), numberLike(slope, x))))
  const change = Add(scaled(square, 3 * cubic), numberLike(slope, x)) // 2u′
  return Mul(g, Add(sigma, Mul(Mul(y, complement(sigma)), change)))
}

const gelu: Rule = (call) => {
  const derivative = call.node.attributes['approximate'] === 'tanh' ? tanhGelu : exactGelu
  return [() => derivative(call.cotangent, call.input(0), call.output())]
}

/** The tanh approximation of x + bias. */
const fastGelu: Rule = (call) => {
  const [x, bias] = [call.input(0), call.node.inputs[1]]
  let sum: Value | undefined
  const ofSum = (): Value => (sum ??= tanhGelu(call.cotangent, bias ? Add(x, bias) : x, call.output()))
  return [ofSum, () => sumTo(ofSum(), call.input(1))]
}

export const elementwise = {
  'com.microsoft.FastGelu': fastGelu,
  Abs: unary((g, x) => Mul(g, Sign(x))),
  Add: binary(
    (g) => g,
    (g) => g,
  ),
  Cast: unary((g, x) => ops.Cast(g, x.dtype)),
  Clip: clip,
  Cos: unary((g, x) => Neg(Mul(g, Sin(x)))),
  Div: binary(
    (g, _, b) => Div(g, b),
    (g, _, b, y) => Neg(Div(Mul(g, y), b)),
  ),
  Erf: unary((g, x) => Mul(g, scaled(Exp(Neg(Mul(x, x))), 2 / Math.sqrt(Math.PI)))),
  Exp: unary((g, _, y) => Mul(g, y)),
  Gelu: gelu,
  Identity: unary((g) => g),
  Log: unary((g, x) => Div(g, x)),
  Max: extremum(Greater),
  Min: extremum(Less),
  Mul: binary(
    (g, _, b) => Mul(g, b),
    (g, a) => Mul(g, a),
  ),
  Neg: unary((g) => Neg(g)),
  Pow: pow,
  Reciprocal: unary((g, _, y) => Neg(Mul(g, Mul(y, y)))),
  Sigmoid: unary((g, _, y) => Mul(g, Mul(y, complement(y)))),
  Sign: unary((_, x) => filledLike(0, x)),
  Sin: unary((g, x) => Mul(g, Cos(x))),
  Sqrt: unary((g, _, y) => Div(scaled(g, 0.5), y)),
  Sub: binary(
    (g) => g,
    (g) => Neg(g),
  ),
  Tanh: unary((g, _, y) => Mul(g, complement(Mul(y, y)))),
  Where: where,
} satisfies Record<string, Rule>
