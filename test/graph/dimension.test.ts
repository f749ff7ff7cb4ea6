import { expect, test } from 'vitest'
import {
  add,
  dimensionText,
  divide,
  evaluate,
  floorDivide,
  multiply,
  sameDimension,
  symbol,
  symbolName,
  type Dimension,
} from '../../src/graph/dimension.ts'

const [R, N] = [symbol('R'), symbol('N')]
const text = (dimension: Dimension | undefined): string | undefined =>
  dimension === undefined ? undefined : dimensionText(dimension)

test('equal sizes have one text, whatever way they were computed', () => {
  expect(text(multiply(R, multiply(N, 2)))).toBe('2*N*R')
  expect(sameDimension(multiply(add(R, 1), N), add(N, multiply(N, R)))).toBe(true)
  expect(sameDimension(add(R, N), multiply(R, N))).toBe(false)
})

test('terms that cancel leave a plain number', () => {
  expect(add(add(R, 3), multiply(R, -1))).toBe(3)
  expect(multiply(R, 0)).toBe(0)
})

test('sums are written with their signs, the higher degree first', () => {
  expect(text(add(add(multiply(R, R), multiply(N, -2)), -1))).toBe('R*R - 2*N - 1')
})

test('division is exact or refused', () => {
  expect(text(divide(multiply(R, multiply(N, 6)), multiply(R, 3)))).toBe('2*N')
  expect(divide(multiply(R, 6), 4)).toBeUndefined()
  expect(divide(R, N)).toBeUndefined()
  expect(divide(add(R, N), add(R, N))).toBe(1)
})

test('a floor is taken where the symbolic part divides, and refused where it does not', () => {
  expect(text(floorDivide(add(multiply(R, 8), -2), 2))).toBe('4*R - 1')
  expect(text(floorDivide(add(multiply(R, 8), -1), 2))).toBe('4*R - 1')
  expect(floorDivide(add(R, 1), 2)).toBeUndefined()
})

test('sizes given for the symbols give a number, and a missing one is named', () => {
  expect(evaluate(add(multiply(R, multiply(N, 2)), 5), { R: 3, N: 4 })).toBe(29)
  expect(() => evaluate(multiply(R, N), { R: 3 })).toThrow('no size is given for N')
})

test('only a symbol alone has a name', () => {
  expect(symbolName(R)).toBe('R')
  expect(symbolName(multiply(R, 2))).toBeUndefined()
  expect(symbolName(add(R, 1))).toBeUndefined()
  expect(symbolName(7)).toBeUndefined()
})
