/** The dashboard against what the service really tells Prometheus. */
import { readFileSync } from 'node:fs'
import type { FastifyInstance } from 'fastify'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { buildTestApp, startTestService, type TestService } from '../http/server.ts'
import { idleFineTuning } from '../http/unreachable.ts'

interface Dashboard {
  readonly panels: readonly {
    readonly id: number
    readonly title: string
    readonly gridPos: { readonly x: number; readonly y: number; readonly w: number }
    readonly targets: readonly { readonly expr: string }[]
  }[]
}

const file = new URL('../../deploy/grafana/atelier.json', import.meta.url)
const { panels } = JSON.parse(readFileSync(file, 'utf8')) as Dashboard
let service: TestService
let app: FastifyInstance
let text: string

beforeAll(async () => {
  service = await startTestService()
  const running = [{ id: 'ftjob_1', step: 1, steps: 2, loss: 1, imagesPerSecond: 1 }]
  const figures = async () => ({ ...(await idleFineTuning.figures()), running })
  app = await buildTestApp(service.generation, { fineTuning: { ...idleFineTuning, figures } })
  await app.inject({ method: 'POST', url: '/v1/images/generations', payload: { prompt: 'x', steps: 1 } })
  text = (await app.inject('/metrics')).body
})
afterAll(async () => {
  await app.close()
  await service.close()
})

test('every metric that the dashboard asks for is told, with the labels that it is asked by', () => {
  const samples = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  const labelsOf = new Map<string, Set<string>>()
  for (const line of samples) {
    const { name = '', labels = '' } = /^(?<name>\w+)(?:\{(?<labels>.*)\})? /.exec(line)?.groups ?? {}
    const known = labelsOf.get(name) ?? new Set()
    for (const [, label] of labels.matchAll(/(\w+)="/g)) known.add(label!)
    labelsOf.set(name, known)
  }
  const missing = panels.flatMap(({ title, targets }) =>
    targets.flatMap(({ expr }) => {
      const names = expr.match(/atelier_\w+/g) ?? []
      const labels = Array.from(expr.matchAll(/by \(([^)]*)\)/g), ([, by = '']) => by.split(', ')).flat()
      const told = labelsOf.get(names[0] ?? '') ?? new Set()
      return [
        ...(names.length === 0 ? [`${title}: no metric`] : []),
        ...names.filter((name) => !labelsOf.has(name)).map((name) => `${title}: ${name}`),
        ...labels.filter((label) => !told.has(label)).map((label) => `${title}: label ${label}`),
      ]
    }),
  )
  expect(missing).toEqual([])
  expect(panels.every(({ targets }) => targets.length > 0)).toBe(true)
})

test('a picture that was made counts in every phase', () => {
  for (const phase of ['queue', 'wait', 'encode', 'denoise', 'decode', 'total'])
    expect(text).toContain(`atelier_phase_seconds_count{phase="${phase}"} 1`)
})

test('panels have ids of their own and lie beside each other', () => {
  expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length)
  expect(new Set(panels.map(({ gridPos: { x, y } }) => `${x},${y}`)).size).toBe(panels.length)
})
