/** How a generation stands, by what is heard of it. */
import { expect, test } from 'vitest'
import type { SchemaGenerationEvent } from '../../src/sdk/index.ts'
import { hear, progressOf, unheard } from '../../src/web/playground/live.ts'

const at = '2026-01-01T12:00:00.000Z'
const common = { generation_id: 'gen_1', at }
const events: SchemaGenerationEvent[] = [
  { ...common, id: 1, type: 'queued', queue_position: 2 },
  { ...common, id: 2, type: 'started' },
  { ...common, id: 3, type: 'step', image: 1, step: 5, steps: 10, eta_seconds: 4, batch_rows: 2 },
  {
    ...common,
    id: 4,
    type: 'preview',
    image: 1,
    step: 5,
    steps: 10,
    url: 'u',
    width: 64,
    height: 64,
    output_format: 'webp',
  },
]

test('steps and previews are told by picture, also where a later picture is first', () => {
  const live = events.reduce(hear, unheard)
  expect(live).toEqual({
    hasStarted: true,
    queuePosition: undefined,
    endsAt: Date.parse(at) + 4_000,
    pictures: [
      { step: 0, steps: 10, previewUrl: undefined },
      { step: 5, steps: 10, previewUrl: 'u' },
    ],
    lastEventId: 4,
    connection: 'good',
  })
  expect(progressOf(live, 2)).toBe(0.25)
})

test('a preview that comes late does not take steps back, and a restart of the service takes all of them', () => {
  const ahead = hear(events.reduce(hear, unheard), { ...events[2]!, id: 5, step: 8 } as SchemaGenerationEvent)
  const late = hear(ahead, { ...events[3]!, id: 6, step: 5 } as SchemaGenerationEvent)
  expect(late.pictures[1]).toEqual({ step: 8, steps: 10, previewUrl: 'u' })
  const anew = hear(late, { ...common, id: 7, type: 'queued', queue_position: 0 })
  expect(anew).toEqual({ ...unheard, lastEventId: 7, queuePosition: 0 })
})
