import { expect, test } from 'vitest'
import { TrainedTime } from '../../src/fine-tuning/trained-time.ts'
import { practicePool } from './practice-pool.ts'

test('device time is that of all devices, of which one may begin anew and count from nothing', () => {
  const [device] = practicePool().devices
  const trained = new Map([
    ['cpu:0', 10_000],
    ['cpu:1', 5_000],
  ])
  const time = new TrainedTime({
    get devices() {
      return [...trained].map(([name, deviceMs]) => ({
        ...device!,
        name,
        load: { ...device!.load, training: { job: undefined, deviceMs, units: 0, steps: 0 } },
      }))
    },
  })
  trained.set('cpu:0', 10_100)
  expect(time.take()).toBe(100)
  trained.set('cpu:0', 300).set('cpu:1', 5_200)
  expect(time.take()).toBe(500)
  expect(time.take()).toBe(0)
})
