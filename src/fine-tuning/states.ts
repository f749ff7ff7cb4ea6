/**
 * Pure: what a job can be, and what may become of it.
 *
 *   validating ─ validated → queued ─ claimed → running ─ succeeded | failed → final
 *                              ↑ ↖─── stopped ─────┤
 *                           resume                 │ stopped, when a pause was asked for
 *                              └───── paused ←─────┘              any but a final one ─ cancel → cancelled
 *
 * A pause is a wish while a device works: the job pauses when it has saved. A run that stops without that wish, because
 * the server shuts down or has died, waits for its next turn.
 */
export const fineTuningStates = [
  'validating',
  'queued',
  'running',
  'paused',
  'succeeded',
  'failed',
  'cancelled',
] as const
export type FineTuningState = (typeof fineTuningStates)[number]

export interface Standing {
  readonly state: FineTuningState
  /** Pause as soon as the work at hand is done. */
  readonly pauseAsked: boolean
}

export type StateEvent =
  'validated' | 'claimed' | 'stopped' | 'succeeded' | 'failed' | 'pause' | 'resume' | 'cancel'

type Becomes = (standing: Standing) => Standing

const at = (state: FineTuningState): Standing => ({ state, pauseAsked: false })
const become =
  (state: FineTuningState): Becomes =>
  () =>
    at(state)
const stay: Becomes = (standing) => standing
const askPause: Becomes = ({ state }) => ({ state, pauseAsked: true })
const forgetPause: Becomes = ({ state }) => at(state)
const pauseOrQueue: Becomes = ({ pauseAsked }) => at(pauseAsked ? 'paused' : 'queued')

const cancel = become('cancelled')
const failed = become('failed')
const ended = { cancel: stay }

const table: Readonly<Record<FineTuningState, Readonly<Partial<Record<StateEvent, Becomes>>>>> = {
  validating: { validated: pauseOrQueue, pause: askPause, resume: forgetPause, failed, cancel },
  queued: { claimed: become('running'), pause: become('paused'), resume: stay, failed, cancel },
  running: {
    stopped: pauseOrQueue,
    succeeded: become('succeeded'),
    pause: askPause,
    resume: forgetPause,
    failed,
    cancel,
  },
  paused: { resume: become('queued'), pause: stay, cancel },
  succeeded: ended,
  failed: ended,
  cancelled: ended,
}

/** @returns undefined where the event cannot happen; asking again for what is so already changes nothing */
export const next = (standing: Standing, event: StateEvent): Standing | undefined =>
  table[standing.state][event]?.(standing)

export const isFinal = (state: FineTuningState): boolean => table[state] === ended

/** States with a queue job: somebody should look at the row. */
export const isWaitingOrRunning = (state: FineTuningState): boolean =>
  state === 'queued' || state === 'running'
