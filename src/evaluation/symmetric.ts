/** Eigenvalues and roots of small symmetric matrices, by Jacobi's rotations (Golub and Van Loan, Matrix Computations, section 8.5). */

/** Of D rows, one after the other. */
export type Matrix = Float64Array // (D, D)

export interface Eigen {
  readonly values: Float64Array // (D), in no order
  /** Of which the columns belong to the values. */
  readonly vectors: Matrix
}

const sweeps = 50
/** Of the off-diagonal's sum of squares to the whole's. */
const tolerance = 1e-24

/** @throws {RangeError} when fifty sweeps do not suffice, as with numbers that are not finite */
export function eigenOf(symmetric: Matrix): Eigen {
  const size = sideOf(symmetric)
  const rest = symmetric.slice()
  const vectors = identity(size)
  for (let sweep = 0; sweep < sweeps; sweep++) {
    let [outside, whole] = [0, 0]
    for (let row = 0; row < size; row++)
      for (let column = 0; column < size; column++) {
        const square = rest[row * size + column]! ** 2
        whole += square
        if (row !== column) outside += square
      }
    if (outside <= tolerance * whole)
      return { values: Float64Array.from({ length: size }, (_, at) => rest[at * size + at]!), vectors }
    for (let p = 0; p < size; p++) for (let q = p + 1; q < size; q++) rotate(rest, vectors, size, p, q)
  }
  throw new RangeError(`matrix: expected eigenvalues within ${sweeps} sweeps, got none`)
}

/** Makes the values at (p, q) and (q, p) nothing. */
function rotate(matrix: Matrix, vectors: Matrix, size: number, p: number, q: number): void {
  const between = matrix[p * size + q]!
  if (between === 0) return
  const theta = (matrix[q * size + q]! - matrix[p * size + p]!) / (2 * between)
  const tangent = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1))
  const cosine = 1 / Math.hypot(tangent, 1)
  const sine = tangent * cosine
  const turn = (values: Matrix, one: number, other: number): void => {
    const [x, y] = [values[one]!, values[other]!]
    values[one] = cosine * x - sine * y
    values[other] = sine * x + cosine * y
  }
  for (let at = 0; at < size; at++) turn(matrix, at * size + p, at * size + q)
  for (let at = 0; at < size; at++) turn(matrix, p * size + at, q * size + at)
  for (let at = 0; at < size; at++) turn(vectors, at * size + p, at * size + q)
}

/** @param semidefinite eigenvalues that are negative by rounding count as 0 */
export function rootOf(semidefinite: Matrix): Matrix {
  const size = sideOf(semidefinite)
  const { values, vectors } = eigenOf(semidefinite)
  const scaled = vectors.map((value, at) => value * Math.sqrt(Math.max(values[at % size]!, 0)))
  return product(scaled, transposed(vectors))
}

export function product(one: Matrix, other: Matrix): Matrix {
  const size = sideOf(one)
  const result = new Float64Array(size * size)
  for (let row = 0; row < size; row++)
    for (let inner = 0; inner < size; inner++) {
      const factor = one[row * size + inner]!
      for (let column = 0; column < size; column++)
        result[row * size + column]! += factor * other[inner * size + column]!
    }
  return result
}

export function transposed(matrix: Matrix): Matrix {
  const size = sideOf(matrix)
  return matrix.map((_, at) => matrix[(at % size) * size + Math.floor(at / size)]!)
}

function identity(size: number): Matrix {
  const matrix = new Float64Array(size * size)
  for (let at = 0; at < size; at++) matrix[at * size + at] = 1
  return matrix
}

const sideOf = (matrix: Matrix): number => Math.sqrt(matrix.length)
