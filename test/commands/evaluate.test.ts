/** `atelier evaluate` as it is called: a few prompts on the golden checkpoint. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { expect, onTestFinished, test } from 'vitest'
import { Counter } from '../../src/commands/evaluate/counter.ts'
import { temporaryFolder } from '../weights/folder.ts'

const cli = fileURLToPath(new URL('../../src/cli.ts', import.meta.url))
const model = fileURLToPath(new URL('../fixtures/golden/tiny-512/checkpoint', import.meta.url))

const prompts = [
  { prompt: 'a red apple', group: 'named', seeds: [1, 2], width: 96, height: 96 },
  {
    prompt: 'a dog on a white background',
    group: 'placed',
    seeds: [3, 4],
    width: 96,
    height: 96,
    expect: {
      background: { name: 'white', rgb: [255, 255, 255] },
      placement: { name: 'left', x: 0.1, y: 0.5 },
    },
  },
]

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

async function evaluate(
  suite: unknown,
  args: readonly string[],
  onOutput: (stdout: string, interrupt: () => void) => void = () => undefined,
): Promise<Ended & { readonly folder: string }> {
  const folder = await temporaryFolder()
  await writeFile(join(folder, 'suite.json'), JSON.stringify(suite))
  const child = spawn(
    process.execPath,
    [cli, 'evaluate', model, '--suite', folder, '--out', 'out', ...args],
    {
      cwd: folder,
      env: { ...process.env, ATELIER_DATA_DIR: join(folder, 'data') },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  )
  onTestFinished(() => void child.kill('SIGKILL'))
  let [stdout, stderr] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
    onOutput(stdout, () => child.kill('SIGINT'))
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, stdout, stderr, folder }
}

test('a model is evaluated by prompts, and held against random weights', async () => {
  const args = ['--steps', '2', '--guidance-scale', '3', '--seeds', '1', '--floor']
  const { code, stdout, stderr, folder } = await evaluate({ name: 'few', prompts }, args)
  expect(stderr).toBe('')
  expect(code).toBe(0)
  expect(stdout).toMatch(/^pictures of checkpoint: 2\/2 in \d+ s$/m)
  expect(stdout).toMatch(/^few on checkpoint \([0-9a-f]{16}\): 2 steps of dpm\+\+_2m, guidance 3$/m)
  expect(stdout).toMatch(/^placed +1 +(?:0|100)\.0 % \[.*\] +(?:0|100)\.0 % \[.*\]$/m)
  expect(stdout).toMatch(/^placed, random weights +1 /m)
  const out = join(folder, 'out')
  expect((await readdir(out)).sort()).toEqual([
    'contact-sheet-named.webp',
    'contact-sheet-placed.webp',
    'pictures',
    'report.json',
  ])
  const { width, height } = await sharp(join(out, 'pictures', '00000.png')).metadata()
  expect([width, height]).toEqual([512, 512])
  const report = JSON.parse(await readFile(join(out, 'report.json'), 'utf8')) as Record<string, unknown>
  expect(report).toMatchObject({
    suite: { name: 'few' },
    settings: { steps: 2, guidanceScale: 3, scheduler: 'dpm++_2m' },
    pictures: [
      { file: 'pictures/00000.png', prompt: 'a red apple', seed: 1 },
      { file: 'pictures/00001.png', group: 'placed', seed: 3 },
    ],
  })
  // The random weights are gone again.
  expect((await readdir(join(folder, 'data', 'cache'))).filter((name) => name.startsWith('random'))).toEqual(
    [],
  )
})

test('a suite that is wrong ends with 2 and one line', async () => {
  const { code, stdout, stderr, folder } = await evaluate({ name: 'few', prompts: [{}] }, [])
  expect([code, stdout]).toEqual([2, ''])
  expect(stderr).toBe(`${join(folder, 'suite.json')}: prompts[0].prompt: expected a value, got nothing\n`)
})

test('a prompt that is not served ends with 2 as well', async () => {
  const tooLarge = [{ ...prompts[0], width: 4096, height: 96 }]
  const { code, stderr } = await evaluate({ name: 'few', prompts: tooLarge }, [])
  expect(code).toBe(2)
  expect(stderr).toMatch(/^"a red apple": size: expected "auto" or "WIDTHxHEIGHT" .*, got "4096x96"\n$/)
})

test.each(['-1', '20.5', 'much'])('a guidance of %s is not served', async (scale) => {
  const { code, stderr } = await evaluate({ name: 'few', prompts }, [`--guidance-scale=${scale}`])
  expect(code).toBe(1)
  expect(stderr).toContain(`argument '${scale}' is invalid. Expected a number from 0 to 20.`)
})

test('an interruption ends it with 130 and no report', async () => {
  const seeds = Array.from({ length: 400 }, (_, seed) => seed)
  const { code, stdout, folder } = await evaluate(
    { name: 'many', prompts: [{ ...prompts[0], seeds }] },
    ['--steps', '50'],
    (told, interrupt) => {
      if (told.includes('making') && !told.includes('interrupted')) interrupt()
    },
  )
  expect(code).toBe(130)
  expect(stdout).toContain('interrupted: ending')
  expect(await readdir(join(folder, 'out'))).toEqual(['pictures'])
})

test('where nobody watches a count is told now and then, with what is left', () => {
  let [output, nowMs] = ['', 0]
  const counter = new Counter('pictures', 4, { write: (text) => (output += text) }, () => nowMs)
  for (const [done, at] of [
    [1, 4_000],
    [2, 12_000],
    [3, 13_000],
    [4, 16_000],
  ] as const) {
    nowMs = at
    counter.reach(done)
  }
  counter.end()
  expect(output).toBe('pictures: 2/4 in 12 s, 12 s left\npictures: 4/4 in 16 s\n')
})
