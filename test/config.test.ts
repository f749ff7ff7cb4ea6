import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { describeSettings, readConfig } from '../src/config.ts'

test('defaults are a whole and frozen configuration', () => {
  const config = readConfig({ PATH: '/bin' })
  expect(config).toMatchObject({
    host: '127.0.0.1',
    port: 8080,
    models: ['emoji'],
    devices: [{ name: 'cpu', provider: 'cpu' }],
    maxSide: 2048,
  })
  expect(Object.isFrozen(config)).toBe(true)
})

test.each([
  ['ATELIER_PORT', '65536', 'a whole number from 0 to 65535'],
  ['ATELIER_PORT', '-1', 'a whole number from 0 to 65535'],
  ['ATELIER_PORT', '', 'a whole number from 0 to 65535'],
  ['ATELIER_DEVICES', 'tpu', 'cpu, cpu:FIRST-LAST (cores), cuda, cuda:N, webgpu, each once'],
  ['ATELIER_DEVICES', 'cpu,cpu', 'cpu, cpu:FIRST-LAST (cores), cuda, cuda:N, webgpu, each once'],
  ['ATELIER_DEVICES', 'cpu:3-1', 'cpu, cpu:FIRST-LAST (cores), cuda, cuda:N, webgpu, each once'],
  ['ATELIER_PUBLIC_URL', 'ftp://x', 'an http or https URL without a query'],
  ['ATELIER_DATA_DIR', '', 'a folder'],
])('%s=%o is refused in one line that says what was expected and what came', (variable, text, expected) => {
  expect(() => readConfig({ [variable]: text })).toThrow(
    `${variable}: expected ${expected}, got ${JSON.stringify(text)}`,
  )
})

test('a database URL that is none is refused without telling it, since it may hold a password', () => {
  const refuse = () => readConfig({ ATELIER_DATABASE_URL: 'mysql://user:secret@host/db' })
  expect(refuse).toThrow(
    'ATELIER_DATABASE_URL: expected postgres://USER:PASSWORD@HOST:PORT/DATABASE, or nothing',
  )
  expect(refuse).not.toThrow(/secret/)
})

test('devices are read with their provider, index and cores', () => {
  expect(readConfig({ ATELIER_DEVICES: 'cpu:0-1, cuda:1,webgpu' }).devices).toEqual([
    { name: 'cpu:0-1', provider: 'cpu', cores: [0, 1] },
    { name: 'cuda:1', provider: 'cuda', index: 1 },
    { name: 'webgpu', provider: 'webgpu' },
  ])
})

test('a setting that does not exist is refused by name', () => {
  expect(() => readConfig({ ATELIER_PRT: '80' })).toThrow(
    /^ATELIER_PRT: expected one of ATELIER_HOST, .*; there is no such setting$/,
  )
})

test("the README's table is the settings' own", () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
  const rows = describeSettings().map(
    ({ variable, fallback, description, expected }) =>
      `| \`${variable}\` | ${fallback === '' ? '' : `\`${fallback}\``} | ${description}; ${expected} |`,
  )
  expect(readme).toContain(rows.join('\n'))
})
