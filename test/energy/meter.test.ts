/** Energy by meters that the test turns, and what comes of it. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { footprint } from '../../src/energy/footprint.ts'
import { openEnergyMeter } from '../../src/energy/meter.ts'
import { temporaryFolder } from '../storage/folders.ts'

test('an hour of one device at 250 W is a quarter of a kWh, with its CO₂ and its price', () => {
  const used = { deviceMs: 3.6e6, joules: 250 * 3600 }
  expect(footprint(used, { gramsPerKwh: 480, costPerDeviceHour: 3, watts: 0 })).toEqual({
    deviceHours: 1,
    kwh: 0.25,
    co2Grams: 120,
    cost: 3,
  })
  expect(footprint(used, { gramsPerKwh: 480, costPerDeviceHour: undefined, watts: 0 }).cost).toBeUndefined()
})

test('without a meter the configured power counts', async () => {
  const meter = await openEnergyMeter({ watts: 80 }, [], temporaryFolder())
  expect(await meter.take(2_500)).toEqual({ joules: 200, source: 'configured' })
})

test("packages' counters are read, over their turn-around and by the job's share of the time", async () => {
  const folder = temporaryFolder()
  const range = 1_000_000_000
  const set = async (domain: string, microjoules: number) => {
    await mkdir(join(folder, domain), { recursive: true })
    await writeFile(join(folder, domain, 'energy_uj'), `${microjoules}\n`)
    await writeFile(join(folder, domain, 'max_energy_range_uj'), `${range}\n`)
  }
  await set('intel-rapl:0', range - 3_000_000)
  await set('intel-rapl:1', 5_000_000)
  await set('intel-rapl:0:0', 0) // a part of the first
  const meter = await openEnergyMeter({ watts: 80 }, [], folder)
  expect((await meter.take(1_000)).source).toBe('configured') // nothing to compare with yet
  await set('intel-rapl:0', 4_000_000)
  await set('intel-rapl:1', 8_000_000)
  await sleep(20)
  // More device time than time: all of it.
  expect(await meter.take(1e6)).toEqual({ joules: 10, source: 'rapl' })
  await set('intel-rapl:0', 14_000_000)
  await sleep(100)
  const half = await meter.take(50)
  expect(half.joules).toBeGreaterThan(0)
  expect(half.joules).toBeLessThanOrEqual(5)
})

test('a device whose meter cannot be read is counted by the configured power', async () => {
  const meter = await openEnergyMeter({ watts: 300 }, [97])
  expect(await meter.take(1_000)).toEqual({ joules: 300, source: 'configured' })
})
