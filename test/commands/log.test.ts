/** Property: what the database says of a failed query tells nobody what its user wrote. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createLog } from '../../src/commands/log.ts'
import { GenerationStore } from '../../src/generation/store.ts'
import { openStorage, type Storage } from '../../src/storage/storage.ts'
import { someParameters, someRequest } from '../generation/parameters.ts'
import { temporaryFolder } from '../storage/folders.ts'

const secret = 'a prompt that stays between us'

let storage: Storage

beforeAll(async () => {
  storage = await openStorage({
    dataDir: temporaryFolder(),
    onError: (error) => {
      throw error
    },
  })
})

afterAll(() => storage.close())

test.each([
  ['refused by a check of the database', { width: -1 }, 'Generation_size_check'],
  ['refused by Prisma', { width: 'wide' as unknown as number }, 'width'],
])('a row that is %s', async (_, wrong, reason) => {
  const lines: string[] = []
  const log = createLog({ logLevel: 'info' }, { write: (line) => lines.push(line) })
  const parameters = someParameters({ prompt: secret, negativePrompt: secret, ...wrong })
  const error: unknown = await new GenerationStore(storage)
    .create(someRequest({ parameters, requestId: 'req_1', user: secret }), () => undefined)
    .catch((error: unknown) => error)
  expect(error).toBeInstanceOf(Error)
  log.child({ requestId: 'req_1' }).error({ err: error }, 'request failed')
  log.error({ err: new Error('cannot write the outcome', { cause: error }) }, 'generation failed')
  expect(lines).toHaveLength(2)
  for (const line of lines) expect(line).toContain(reason)
  expect(lines.join('')).not.toContain(secret)
})
