import { expect, test } from 'vitest'
import { mebibytes } from '../../src/weights/units.ts'

test('sizes are rounded up to whole MiB', () => {
  expect([0, 1, 2 ** 20, 2 ** 20 + 1].map(mebibytes)).toEqual(['0 MiB', '1 MiB', '1 MiB', '2 MiB'])
})
