/** A model and one that was fine-tuned from it, on one device. */
import { cp } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import { Model } from '../../src/engine/model.ts'
import { Session } from '../../src/engine/session.ts'
import { SharedSessions } from '../../src/engine/shared-sessions.ts'
import { goldenBase } from '../training/small-run.ts'
import { temporaryFolder } from '../weights/folder.ts'
import { fineTune } from './fine-tune.ts'

test('what two models have in common is in memory once, and stays as long as one of them needs it', async () => {
  const folder = await temporaryFolder()
  const [base, tuned] = [join(folder, 'base'), join(folder, 'tuned')]
  await cp(goldenBase('tiny-512'), base, { recursive: true })
  await fineTune(base, tuned)

  const shared = new SharedSessions()
  const options = {
    provider: 'cpu',
    threads: 1,
    cacheDir: join(folder, 'cache'),
    lowering: 'serve',
    onNote: () => {},
    shared,
  } as const
  const opened = vi.spyOn(Session, 'open')
  const [first, second] = [await Model.open('one', base, options), await Model.open('one', tuned, options)]
  await first.load()
  const graphsOf = () => opened.mock.calls.splice(0).map(([graph]) => graph.name)
  const all = graphsOf()
  await second.load()
  const own = graphsOf()
  expect(own).toEqual(all.filter((name) => name.startsWith('pixart')))
  expect(own.length).toBeGreaterThan(0)
  expect(first.description.version).not.toBe(second.description.version)

  const [ids, mask] = [Int32Array.from({ length: 120 }, (_, i) => i + 3), new Float32Array(120).fill(1)]
  const before = await first.encodeText(ids, mask, 1)
  const computedMs = second.computedMs
  await first.unload()
  expect(await second.encodeText(ids, mask, 1)).toEqual(before)
  expect(second.computedMs).toBeGreaterThan(computedMs)
  await first.load()
  expect(graphsOf()).toEqual(own)
  await first.unload()
  await second.unload()
  await second.load()
  expect(graphsOf()).toEqual(all)
  await second.unload()
  opened.mockRestore()
})
