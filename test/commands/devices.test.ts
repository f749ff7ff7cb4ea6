import { cpus } from 'node:os'
import { expect, test } from 'vitest'
import { deviceOptions } from '../../src/commands/devices.ts'
import { ConfigError, readConfig } from '../../src/config.ts'

test('a device that asks for cores which are not there is refused by name', () => {
  const last = cpus().length - 1
  const options = (devices: string) => deviceOptions(readConfig({ ATELIER_DEVICES: devices }), [])
  expect(options(`cpu:0-${last}`)).toMatchObject([{ device: { provider: 'cpu', cores: [0, last] } }])
  expect(() => options(`cpu:0-${last + 1}`)).toThrow(ConfigError)
  expect(() => options(`cpu:0-${last + 1}`)).toThrow(
    `ATELIER_DEVICES: expected cores from 0 to ${last}, which this machine has, got cpu:0-${last + 1}`,
  )
})

test('auto computes in float16 on cuda and in float32 elsewhere; a precision that is named is kept', () => {
  const precisions = (environment: Record<string, string>) =>
    deviceOptions(readConfig({ ATELIER_DEVICES: 'cpu,cuda:1', ...environment }), []).map(
      ({ precision }) => precision,
    )
  expect(precisions({})).toEqual(['float32', 'float16'])
  expect(precisions({ ATELIER_PRECISION: 'float16' })).toEqual(['float16', 'float16'])
})
