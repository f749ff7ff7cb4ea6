/** A few of the hostile requests of which `test/long/fuzz.test.ts` sends thousands. */
import { expect, test } from 'vitest'
import { fuzz } from './fuzz.ts'

test('hostile requests get refusals, and the service goes on', async () => {
  const { statuses } = await fuzz(240, 7)
  expect(Object.keys(statuses)).toEqual(expect.arrayContaining(['400', '401', '404']))
})
