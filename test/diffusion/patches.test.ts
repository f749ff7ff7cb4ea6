import { describe, expect, test } from 'vitest'
import { gridCoordinates, patchify, unpatchify } from '../../src/diffusion/patches.ts'

describe('patches', () => {
  const layout = { channels: 2, height: 4, width: 6, patchSize: 2 }
  const latents = Float32Array.from({ length: 2 * 4 * 6 }, (_, i) => i)

  test('go row by row over the grid, each as (C, p, p)', () => {
    const tokens = new Float32Array(latents.length)
    patchify(latents, layout, tokens)
    expect([...tokens.subarray(0, 16)]).toEqual([0, 1, 6, 7, 24, 25, 30, 31, 2, 3, 8, 9, 26, 27, 32, 33])
    expect([...tokens.subarray(24, 32)]).toEqual([12, 13, 18, 19, 36, 37, 42, 43])
  })

  test('give back the latents that they were made of', () => {
    const tokens = new Float32Array(latents.length)
    const back = new Float32Array(latents.length)
    patchify(latents, layout, tokens)
    unpatchify(tokens, layout, back)
    expect(back).toEqual(latents)
  })

  test('of another length than the layout says are refused', () => {
    expect(() => patchify(latents, layout, new Float32Array(47))).toThrow(
      'expected 48 values, got 48 latents, 47',
    )
    expect(() => unpatchify(new Float32Array(47), layout, latents)).toThrow(RangeError)
  })

  test('are whole', () => {
    const odd = { ...layout, height: 3, width: 8 }
    expect(() => patchify(latents, odd, latents)).toThrow('3 x 8 latents are not whole patches of 2')
  })
})

describe('coordinates', () => {
  const square = { patchSize: 2, baseSize: 4, interpolationScale: 1 }

  test('of the square grid at scale 1 are the indices, row first', () => {
    const expected = [0, 1, 2, 3].flatMap((row) => [0, 1, 2, 3].flatMap((column) => [row, column]))
    expect([...gridCoordinates({ ...square, height: 8, width: 8 })]).toEqual(expected)
  })

  test('of any grid spread over the base size, divided by the interpolation scale', () => {
    const at = gridCoordinates({ ...square, height: 4, width: 16, interpolationScale: 2 })
    const columns = at.filter((_, i) => i % 2 === 1)
    expect([...columns.subarray(0, 8)]).toEqual([0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75])
    expect(at.filter((_, i) => i % 2 === 0)).toEqual(new Float32Array(16).fill(1, 8))
  })

  test('are rounded to float32 at every operation', () => {
    const at = gridCoordinates({ height: 2, width: 88, patchSize: 2, baseSize: 64, interpolationScale: 3 })
    expect(at[15]).toBe(Math.fround(Math.fround(7 / Math.fround(44 / 64)) / 3))
  })
})
