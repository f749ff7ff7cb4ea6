/** Device time, told in lumps when work ends, as what each second went into. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ActivityLog, activitySeconds } from '../../src/generation/device-activity.ts'

const device = (servingMs: number, trainingMs = 0, name = 'cpu') => ({
  name,
  state: 'ready' as const,
  requests: 1,
  load: { backlogMs: 40, servingMs, training: { deviceMs: trainingMs } },
})

const startMs = 1_800_000_000_000
const at = (seconds: number): number => startMs + seconds * 1000

describe('what is told of devices', () => {
  test('a unit of work belongs to the seconds that it was done in, not to that of its end alone', () => {
    const log = new ActivityLog(at(0))
    log.observe([device(100_000)], at(5))
    log.observe([device(102_500)], at(9))
    log.observe([device(102_500)], at(10))
    const { from, devices } = log.tell(8)
    expect(from).toBe(startMs / 1000 + 2)
    expect(devices[0]?.serving).toEqual([0, 0, 0, 0, 0.5, 1, 1, 0])
    expect(devices[0]).toMatchObject({ name: 'cpu', state: 'ready', requests: 1, backlogMs: 40 })
  })

  test('serving and training are told apart, and share a second', () => {
    const log = new ActivityLog(at(0))
    log.observe([device(0, 0)], at(1))
    log.observe([device(250, 600)], at(2))
    log.observe([device(250, 600)], at(3))
    const { devices } = log.tell(2)
    expect(devices[0]?.serving).toEqual([0.25, 0])
    expect(devices[0]?.training).toEqual([0.6, 0])
  })

  test('a device that was restarted counts from nothing; one that has gone is known for a while, then forgotten', () => {
    const log = new ActivityLog(at(0))
    log.observe([device(9_000, 0, 'b'), device(5_000, 0, 'a')], at(1))
    log.observe([device(200, 0, 'b')], at(2))
    log.observe([device(200, 0, 'b')], at(3))
    const { devices } = log.tell(2)
    expect(devices.map(({ name, state }) => [name, state])).toEqual([
      ['a', 'gone'],
      ['b', 'ready'],
    ])
    expect(devices[1]?.serving).toEqual([0.2, 0])
    log.observe([device(200, 0, 'b')], at(2 + activitySeconds))
    expect(log.tell(2).devices.map(({ name }) => name)).toEqual(['b'])
  })

  test('what is older than fifteen minutes is gone, also where nobody looked meanwhile', () => {
    const log = new ActivityLog(at(0))
    log.observe([device(0)], at(1))
    log.observe([device(1_000)], at(2))
    log.observe([device(1_000)], at(1 + activitySeconds))
    expect(log.tell(activitySeconds).devices[0]?.serving[0]).toBe(1)
    log.observe([device(1_000)], at(3 + activitySeconds))
    expect(Math.max(...(log.tell(activitySeconds).devices[0]?.serving ?? []))).toBe(0)
    log.observe([device(1_000)], at(1e7))
    expect(log.tell(activitySeconds).devices[0]?.serving).toHaveLength(activitySeconds)
  })

  test('whatever clocks and devices do, no second holds more than itself, and no work is made up', () => {
    const observation = fc.record({
      afterMs: fc.integer({ min: -2_000, max: 5_000 }),
      servingMs: fc.integer({ min: 0, max: 4_000 }),
      trainingMs: fc.integer({ min: 0, max: 4_000 }),
    })
    fc.assert(
      fc.property(fc.array(observation, { maxLength: 30 }), (observations) => {
        const log = new ActivityLog(at(0))
        let [nowMs, serving, training] = [at(1), 0, 0]
        log.observe([device(serving, training)], nowMs)
        for (const { afterMs, servingMs, trainingMs } of observations) {
          nowMs += afterMs
          serving += servingMs
          training += trainingMs
          log.observe([device(serving, training)], nowMs)
        }
        const [told] = log.tell(activitySeconds).devices
        const sum = (shares: readonly number[] = []) => shares.reduce((total, share) => total + share, 0)
        // Shares are rounded to hundredths.
        expect(sum(told?.serving)).toBeLessThanOrEqual(serving / 1000 + activitySeconds * 0.005)
        expect(sum(told?.training)).toBeLessThanOrEqual(training / 1000 + activitySeconds * 0.005)
        for (const [second, share] of (told?.serving ?? []).entries())
          expect(share + (told?.training[second] ?? 0)).toBeLessThanOrEqual(1.01)
      }),
    )
  })
})
