/** The device's loop on the small model, in this process. */
import { setImmediate as yieldToEvents } from 'node:timers/promises'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { Loop } from '../../src/engine/loop.ts'
import { openDevice, type OpenedDevice } from '../../src/engine/open-device.ts'
import type { ChildMessage, ImageRequest } from '../../src/engine/protocol.ts'

const folder = fileURLToPath(new URL('../../models/tiny', import.meta.url))
let cacheDir: string
let device: OpenedDevice
let heard: ChildMessage[] = []
let loop: Loop

beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'atelier-loop-'))
  const options = {
    name: 'cpu',
    device: { provider: 'cpu' },
    models: [{ name: 'tiny', folder }],
    cacheDir,
  } as const
  device = await openDevice(options, () => {})
  loop = new Loop({ device: 'cpu', ...device, tell: (message) => heard.push(message) })
  void loop.run()
})
afterAll(() => rm(cacheDir, { recursive: true }))
beforeEach(() => {
  heard = []
})

const request = (id: string, more: Partial<ImageRequest> = {}): ImageRequest => ({
  id,
  model: 'tiny',
  prompt: `prompt ${id}`,
  negativePrompt: '',
  width: 512,
  height: 512,
  seed: 1,
  seedIndex: 0,
  steps: 4,
  guidanceScale: 4.5,
  scheduler: 'dpm++_2m',
  cleanCaption: false,
  priority: 'normal',
  ...more,
})

const told = <T extends ChildMessage['type']>(type: T) =>
  heard.filter((message): message is Extract<ChildMessage, { type: T }> => message.type === type)
const stepsOf = (id: string) =>
  told('progress').flatMap(({ id: of, progress }) =>
    of === id && progress.phase === 'denoising' ? [progress.step] : [],
  )
const waitFor = (holds: () => boolean) => expect.poll(holds, { interval: 5, timeout: 30_000 }).toBe(true)
const lastLoad = () => told('load').at(-1)!.load

test('a picture takes each step once, tells of them in order and is then there', async () => {
  loop.submit(request('one'))
  await waitFor(() => told('succeeded').length === 1)
  expect(stepsOf('one')).toEqual([1, 2, 3, 4])
  const [{ result }] = told('succeeded') as [Extract<ChildMessage, { type: 'succeeded' }>]
  expect(result.pixels).toHaveLength(512 * 512 * 3)
  expect(result.receipt).toMatchObject({ device: 'cpu', rowSteps: 8, meanBatchRows: 2, maxBatchRows: 2 })
  expect(result.timings.computeMs).toBeLessThanOrEqual(
    result.timings.encodeMs + result.timings.denoiseMs + result.timings.decodeMs,
  )
})

test('200 random cancels: a cancelled request takes at most the step under way, and no row is left behind', async () => {
  let random = 12345
  const next = (below: number) => (random = (Math.imul(random, 1103515245) + 12345) >>> 0) % below
  const cancelledAt = new Map<string, number>()
  for (let i = 0; i < 200; i++) {
    const id = `cancel-${i}`
    loop.submit(
      request(id, {
        width: 256,
        height: 1024,
        prompt: `p ${i % 5}`,
        steps: 50,
        guidanceScale: i % 4 === 0 ? 1 : 4.5,
      }),
    )
    for (let turns = next(4); turns > 0; turns--) await yieldToEvents()
    cancelledAt.set(id, stepsOf(id).length)
    loop.cancel(id)
    expect(stepsOf(id)).toHaveLength(cancelledAt.get(id)!)
  }
  // The next to come is alone: nothing of the others is in its batches.
  loop.submit(request('after', { steps: 2 }))
  await waitFor(() => told('succeeded').length === 1)
  expect(told('succeeded')[0]!.result.receipt.maxBatchRows).toBe(2)
  for (const [id, steps] of cancelledAt) expect(stepsOf(id)).toHaveLength(steps)
  await waitFor(() => lastLoad().backlogMs === 0)
})

test('a repeated prompt does not run the text encoder again, and twins in flight run it once', async () => {
  loop.submit(request('first', { prompt: 'a blue boat', steps: 1 }))
  await waitFor(() => told('succeeded').length === 1 && lastLoad().backlogMs === 0)
  const { textEncodings } = lastLoad()
  loop.submit(request('second', { prompt: '  A blue BOAT ', steps: 1 }))
  await waitFor(() => told('succeeded').length === 2 && lastLoad().backlogMs === 0)
  expect(lastLoad().textEncodings).toBe(textEncodings)
  expect(told('succeeded')[1]!.result.receipt.promptCached).toBe(true)

  for (const id of ['twin a', 'twin b']) loop.submit(request(id, { prompt: 'two of a kind', steps: 1 }))
  await waitFor(() => told('succeeded').length === 4 && lastLoad().backlogMs === 0)
  expect(lastLoad().textEncodings).toBe(textEncodings + 1)
})

test('previews come after the steps asked for, no larger than asked, and cost the picture nothing of its exactness', async () => {
  loop.submit(request('plain', { prompt: 'a fox', steps: 5 }))
  await waitFor(() => told('succeeded').length === 1)
  loop.submit(request('shown', { prompt: 'a fox', steps: 5, previews: { steps: [2, 4], maxSide: 128 } }))
  await waitFor(() => told('succeeded').length === 2)
  const previews = told('progress').flatMap(({ progress }) =>
    progress.phase === 'preview' ? [progress] : [],
  )
  expect(previews.map(({ step, picture: { width, height } }) => [step, width, height])).toEqual([
    [2, 128, 128],
    [4, 128, 128],
  ])
  const [plain, shown] = told('succeeded')
  expect(Buffer.compare(shown!.result.pixels, plain!.result.pixels)).toBe(0)
})

test('an unknown model is refused by name, and what fails in the middle fails alone', async () => {
  loop.submit(request('nobody', { model: 'other' }))
  expect(told('failed')).toEqual([
    {
      type: 'failed',
      id: 'nobody',
      code: 'unknown_model',
      message: 'expected one of the models tiny, got other',
    },
  ])
  loop.submit(request('too long', { scheduler: 'lcm', steps: 60 }))
  loop.submit(request('fine', { steps: 1 }))
  await waitFor(() => told('succeeded').length === 1 && told('failed').length === 2)
  expect(told('failed')[1]).toMatchObject({ id: 'too long', code: 'generation_failed' })
})
