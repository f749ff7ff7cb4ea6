/** What pictures take, by counters that the test turns and by a program that tells watts as nvidia-smi does. */
import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { expect, onTestFinished, test } from 'vitest'
import { openPowerMeter, type PowerOptions } from '../../src/energy/power.ts'
import { temporaryFolder } from '../storage/folders.ts'

const cpus = [
  { name: 'cpu:0-1', provider: 'cpu' },
  { name: 'cpu:2-3', provider: 'cpu' },
] as const

async function open(options: Partial<PowerOptions>) {
  const meter = await openPowerMeter({
    watts: 80,
    devices: cpus,
    cpuBusyMs: () => 0,
    raplFolder: temporaryFolder(),
    ...options,
  })
  onTestFinished(() => meter.close())
  return meter
}

async function counter(folder: string, microjoules: number, range = 1e9): Promise<void> {
  await mkdir(join(folder, 'intel-rapl:0'), { recursive: true })
  await writeFile(join(folder, 'intel-rapl:0', 'max_energy_range_uj'), `${range}\n`)
  await writeFile(join(folder, 'intel-rapl:0', 'energy_uj'), `${microjoules}\n`)
}

test('without a meter the configured power counts', async () => {
  const meter = await open({})
  expect(await meter.begin().end('cpu:0-1', 2_500)).toEqual({ joules: 200, source: 'configured' })
})

test("pictures side by side share the package's energy by their device time, over the counter's turn-around", async () => {
  const raplFolder = temporaryFolder()
  let busyMs = 1_000
  await counter(raplFolder, 1e9 - 10e6)
  const meter = await open({ raplFolder, cpuBusyMs: () => busyMs })
  const [first, second] = [meter.begin(), meter.begin()]
  await sleep(50)
  await counter(raplFolder, 20e6) // 30 J, through zero
  busyMs += 60_000 // two devices, 30 s each
  expect(await first.end('cpu:0-1', 40_000)).toEqual({ joules: 20, source: 'rapl' })
  expect(await second.end('cpu:2-3', 20_000)).toEqual({ joules: 10, source: 'rapl' })
})

test('what an idle machine takes is not put on a short picture', async () => {
  const raplFolder = temporaryFolder()
  await counter(raplFolder, 0)
  const meter = await open({ raplFolder })
  const work = meter.begin()
  await sleep(200)
  await counter(raplFolder, 8e6)
  const { joules } = await work.end('cpu:0-1', 20)
  expect(joules).toBeGreaterThan(0)
  expect(joules).toBeLessThan(4)
})

test('shares of one span never come to more than the package took', async () => {
  const raplFolder = temporaryFolder()
  let busyMs = 0
  await counter(raplFolder, 0)
  const meter = await open({
    raplFolder,
    cpuBusyMs: () => busyMs,
  })
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 5_000 }), { minLength: 1, maxLength: 5 }),
      async (shares) => {
        await counter(raplFolder, 0)
        const works = shares.map(() => meter.begin())
        await sleep(5)
        await counter(raplFolder, 7e6)
        busyMs += shares.reduce((sum, share) => sum + share)
        const ends = await Promise.all(shares.map((share, index) => works[index]!.end('cpu:0-1', share)))
        expect(ends.reduce((sum, { joules }) => sum + joules, 0)).toBeLessThanOrEqual(7 + 1e-9)
      },
    ),
    { numRuns: 20 },
  )
})

test("a GPU's own power counts, as the sampler tells it", async () => {
  const folder = temporaryFolder()
  const nvidiaSmi = join(folder, 'nvidia-smi')
  await writeFile(
    nvidiaSmi,
    '#!/bin/sh\nwhile true; do echo "0, 100.00"; echo "1, 250.50"; echo "2, [N/A]"; sleep 0.1; done\n',
  )
  await chmod(nvidiaSmi, 0o755)
  const devices = [0, 1, 2].map((index) => ({ name: `cuda:${index}`, provider: 'cuda', index }) as const)
  const meter = await open({ devices, nvidiaSmi })
  const measured = async () => meter.begin().end('cuda:1', 2_000)
  await expect.poll(measured, { timeout: 10_000 }).toEqual({ joules: 501, source: 'nvidia-smi' })
  expect(await meter.begin().end('cuda:2', 1_000)).toEqual({ joules: 80, source: 'configured' })
})

test('where the program is missing the configured power counts', async () => {
  const devices = [{ name: 'cuda', provider: 'cuda' }] as const
  const meter = await open({ devices, nvidiaSmi: join(temporaryFolder(), 'none') })
  await sleep(50)
  expect(await meter.begin().end('cuda', 1_000)).toEqual({ joules: 80, source: 'configured' })
})
