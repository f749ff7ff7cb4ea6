/** Elementary functions in single precision, rounded as PyTorch's are, where a last bit shows in what a model computes. */

const { fround } = Math

/** a·b + c, rounded once: the product of two float32 is exact in double. */
const fusedMultiplyAdd = (a: number, b: number, c: number): number => fround(a * b + c)

/** Of degree 6 down to 2. */
const coefficients = [0.00019852762, 0.00139304355, 0.008333361, 0.041666485, 0.16666667, 0.5].map(fround)

/**
 * exp of a float32 as SLEEF's expf (1.0 ULP, with fused multiply-add) computes it, which PyTorch calls on CPUs with AVX2: the
 * argument reduced by a multiple of ln 2 in two parts, then a polynomial. One of eight results differs from the nearest float32.
 */
export function exp32(x: number): number {
  const power = Math.round(fround(x * fround(Math.LOG2E)))
  const rest = fusedMultiplyAdd(power, -fround(1.428606765330187e-6), fusedMultiplyAdd(power, -fround(0.693145751953125), x))
  const [first = 0, ...others] = coefficients
  const polynomial = others.reduce((sum, coefficient) => fusedMultiplyAdd(sum, rest, coefficient), first)
  return fround(1 + fusedMultiplyAdd(fround(rest * rest), polynomial, rest)) * 2 ** power
}
