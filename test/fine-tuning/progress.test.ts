import { expect, test } from 'vitest'
import { openEnergyMeter } from '../../src/fine-tuning/energy.ts'
import { RunProgress } from '../../src/fine-tuning/progress.ts'
import { FineTuningStore } from '../../src/fine-tuning/store.ts'
import { log, smallStage, useFineTuning } from './fixture.ts'
import { practicePool } from './practice-pool.ts'

const fixture = useFineTuning()

test('device time is that of all devices, of which one may begin anew and count from nothing', async () => {
  const pool = practicePool()
  await fixture.start(pool)
  const job = await fixture.create({ stages: [smallStage] })
  const [device] = pool.devices
  const trained = new Map([
    ['cpu:0', 10_000],
    ['cpu:1', 5_000],
  ])
  const devices = () =>
    [...trained].map(([name, deviceMs]) => ({
      ...device!,
      name,
      load: { ...device!.load, training: { job: undefined, deviceMs, units: 0, steps: 0 } },
    }))
  const progress = new RunProgress({
    job,
    folder: fixture.dataDir,
    checkpoints: [],
    store: new FineTuningStore(fixture.storage),
    pool: {
      get devices() {
        return devices()
      },
    },
    meter: await openEnergyMeter({ watts: 100 }, [], 'none'),
    log,
    onLost: () => undefined,
    onSteps: () => undefined,
  })
  trained.set('cpu:0', 300).set('cpu:1', 5_200)
  expect(await progress.end()).toMatchObject({ deviceMs: 500, energy: { joules: 50 } })
  await fixture.until(job.id, 'succeeded')
})
