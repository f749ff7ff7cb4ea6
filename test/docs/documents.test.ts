/** Every code block of the README and of what lies under docs/ does what it is there for, on a running service. */
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startServer, temporaryFolder, type Server } from '../e2e/server.ts'
import { serverDatabase } from '../postgres/database.ts'
import { readBlocks, type Block } from './blocks.ts'
import { faultsOf, reasons } from './elsewhere.ts'
import { clone, runBlock, setDesk } from './run.ts'

/** The README comes last: it makes a key, and from then on nothing is answered without one. */
const documents = [
  ...readdirSync(join(clone, 'docs/guides')).map((name) => `docs/guides/${name}`),
  'docs/operations.md',
  'README.md',
].map((name) => ({ name, blocks: readBlocks(join(clone, name)) }))

const blocks = documents.flatMap(({ blocks }) => blocks)

/** What the README asks for takes minutes; the same is asked for in short. The guides are run as they stand. */
const shortened = [
  ['"resolution": 128, "steps": 200', '"resolution": 64, "steps": 2, "batch_size": 2'],
  ['resolution: 128, steps: 40', 'resolution: 64, steps: 2, batch_size: 2'],
] as const

let folder: Awaited<ReturnType<typeof temporaryFolder>>
let server: Server

beforeAll(async () => {
  // As npm does it at installation: programs find `atelier/sdk` in dist/.
  execFileSync(process.execPath, [join(clone, 'scripts/prepare.mjs')])
  folder = await temporaryFolder()
  const environment = Object.assign({}, ...blocks.map(settingsOf)) as Record<string, string>
  server = await startServer({
    dataDir: folder.path,
    environment: { ATELIER_MODEL: 'emoji', ATELIER_LOG_LEVEL: 'error', ...environment },
  })
})

afterAll(async () => {
  await server?.stop()
  await folder?.[Symbol.asyncDispose]()
})

/** What a block that starts the server says of it: `NAME=VALUE … npm start`, and nothing else. */
function settingsOf({ place, code, fate }: Block): Record<string, string> {
  if (fate.kind !== 'server') return {}
  if (!/^(?:ATELIER_[A-Z_]+=\S+ )*npm start$/.test(code)) throw new Error(`${place}: ${code}`)
  return Object.fromEntries([...code.matchAll(/(\S+)=(\S+)/g)].map(([, name, value]) => [name, value]))
}

test('every block is in a language that is run, and every reason not to run one is listed and used', () => {
  expect(blocks.length).toBeGreaterThan(40)
  expect(blocks.filter(({ language }) => language !== 'sh' && language !== 'ts')).toEqual([])
  const given = blocks.flatMap(({ fate }) => (fate.kind === 'elsewhere' ? [fate.reason] : []))
  expect(new Set(given)).toEqual(new Set(Object.keys(reasons)))
})

test.each(Object.entries(reasons))(
  'what cannot run here (%s) is held by a test that is there',
  (_, { heldBy }) => {
    expect(heldBy === undefined || existsSync(join(clone, heldBy))).toBe(true)
  },
)

test.each(
  blocks
    .filter(({ fate }) => fate.kind === 'elsewhere' || fate.kind === 'server')
    .map((block) => [block.place, block] as const),
)('%s: the settings, commands, flags and files that it names are there', (_, block) => {
  expect(faultsOf(block)).toEqual([])
})

describe.each(documents)('$name', ({ blocks }) => {
  test('does what it says', async () => {
    const receiver = await freePort()
    using desk = setDesk({ ATELIER_DATA_DIR: folder.path })
    const places = [['http://127.0.0.1:8080', server.url], ['9000', String(receiver)], ...shortened] as const
    for (const block of runnable(blocks))
      expect(await runBlock(rewritten(block, places), desk)).toBeUndefined()
  })
})

test.each(
  blocks.filter(({ fate }) => fate.kind === 'postgres').map((block) => [block.place, block] as const),
)('%s does what it says on a database server', async (_, block) => {
  await using data = await temporaryFolder()
  const [api, worker] = [await freePort(), await freePort()]
  using desk = setDesk({ ATELIER_MODEL: 'tiny', ATELIER_LOG_LEVEL: 'error' })
  const here = rewritten(block, [
    ['postgres://USER:PASSWORD@HOST:5432/DATABASE', await serverDatabase()],
    ['/shared/atelier', data.path],
    ['8080', String(api)],
    ['8081', String(worker)],
  ])
  expect(await runBlock(here, desk)).toBeUndefined()
})

/** Those that run here; one that goes on begins with what it goes on from. */
function runnable(blocks: readonly Block[]): Block[] {
  let program = ''
  return blocks.flatMap((block) => {
    if (block.fate.kind !== 'run' && block.fate.kind !== 'continue') return []
    const code = block.fate.kind === 'continue' ? `${program}\n${block.code}` : block.code
    program = code
    return [{ ...block, code }]
  })
}

/** A block, and what it says comes back, with what is here in the place of what it says. */
function rewritten(
  { code, fate, ...block }: Block,
  places: readonly (readonly [said: string, here: string])[],
): Block {
  const rewrite = (text: string) => places.reduce((text, [said, here]) => text.replaceAll(said, here), text)
  if (!('outputs' in fate)) return { ...block, fate, code: rewrite(code) }
  const outputs = fate.outputs.map((output) => ({ ...output, expected: rewrite(output.expected) }))
  return { ...block, code: rewrite(code), fate: { ...fate, outputs } }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
