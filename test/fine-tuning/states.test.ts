/** What may become of a job, by a table of its own. */
import { expect, test } from 'vitest'
import {
  fineTuningStates,
  isFinal,
  next,
  type FineTuningState,
  type StateEvent,
} from '../../src/fine-tuning/states.ts'

const events: readonly StateEvent[] = [
  'validated',
  'claimed',
  'stopped',
  'succeeded',
  'failed',
  'pause',
  'resume',
  'cancel',
]

/** `!`: a pause is asked for; `-`: cannot happen. In the order of the events. */
const expected: Readonly<Record<string, string>> = {
  validating: 'queued - - - failed validating! validating cancelled',
  'validating!': 'paused - - - failed validating! validating cancelled',
  queued: '- running - - failed paused queued cancelled',
  running: '- - queued succeeded failed running! running cancelled',
  'running!': '- - paused succeeded failed running! running cancelled',
  paused: '- - - - - paused queued cancelled',
  succeeded: '- - - - - - - succeeded',
  failed: '- - - - - - - failed',
  cancelled: '- - - - - - - cancelled',
}

test.each(Object.entries(expected))('from %s come %s', (from, row) => {
  const standing = { state: from.replace('!', '') as FineTuningState, pauseAsked: from.endsWith('!') }
  const became = events.map((event) => {
    const after = next(standing, event)
    return after ? `${after.state}${after.pauseAsked ? '!' : ''}` : '-'
  })
  expect(became.join(' ')).toBe(row)
})

test('a final state is one that nothing changes', () => {
  const unchanging = fineTuningStates.filter((state) =>
    events.every((event) => (next({ state, pauseAsked: false }, event)?.state ?? state) === state),
  )
  expect(fineTuningStates.filter(isFinal)).toEqual(unchanging)
})
