/** Energy and CO₂ in receipts and metrics, from the device time that a picture used. */
import type { FastifyInstance } from 'fastify'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openPowerMeter, type PowerMeter } from '../../src/energy/power.ts'
import { createAtelier, type Atelier } from '../../src/sdk/index.ts'
import { temporaryFolder } from '../storage/folders.ts'
import { buildTestApp, listen, startTestService, testConfig, type TestService } from './server.ts'

let power: PowerMeter
let service: TestService
let app: FastifyInstance
let atelier: Atelier
let address: string

beforeAll(async () => {
  const devices = [{ name: 'paint:0', provider: 'cpu' }] as const
  power = await openPowerMeter({ watts: 360, devices, cpuBusyMs: () => 0, raplFolder: temporaryFolder() })
  service = await startTestService({ power, stepCostMs: 1000 })
  app = await buildTestApp(service.generation, { config: testConfig({ ATELIER_CO2_G_PER_KWH: '500' }) })
  address = await listen(app)
  atelier = createAtelier({ baseUrl: address, maxRetries: 0 })
})
afterAll(async () => {
  await app.close()
  await service.close()
  await power.close()
})

test('a receipt says what pictures took and where the figure is from', async () => {
  const { receipt, data } = await atelier.images.generate({ prompt: 'x', steps: 10, n: 2 })
  // 2 pictures of 10 steps of 1 s at 360 W: 2 Wh, at half a gram each.
  expect(receipt).toMatchObject({ device_seconds: 20, energy_source: 'configured' })
  expect(receipt?.energy_wh).toBeCloseTo(2)
  expect(receipt?.co2_grams).toBeCloseTo(1)
  const one = await atelier.images.retrieve(data[0]!.id)
  expect(one.receipt?.energy_wh).toBeCloseTo(1)
  const metrics = await (await fetch(`${address}/metrics`)).text()
  expect(metrics).toContain('atelier_energy_joules_total{source="configured"} 7200')
  expect(metrics).toContain('atelier_co2_grams_total{source="configured"}')
})
