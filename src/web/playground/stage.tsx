/** The generation that is looked at: while it is made, and what came of it. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { useEffect } from 'preact/hooks'
import type { SchemaGeneration } from '../../sdk/index.ts'
import { Button } from '../shared/button.tsx'
import { Icon } from '../shared/icons.tsx'
import { Notice } from '../shared/notice.tsx'
import { explain, type Problem } from '../shared/problem.ts'
import { Details } from './details.tsx'
import { liveOf } from './following.ts'
import { cancel, isUnsettled } from './history.ts'
import { progressOf, type Live } from './live.ts'
import { Picture } from './picture.tsx'
import { readSize } from './sizes.ts'

/** Which of the pictures is looked at. */
export function Stage({ generation }: { readonly generation: SchemaGeneration }): JSX.Element {
  const index = useSignal(0)
  useEffect(() => {
    index.value = 0
  }, [generation.id])
  const chosen = Math.min(index.value, generation.parameters.n - 1)
  return (
    <article class="stage" aria-label={generation.parameters.prompt}>
      <div class="stage__pictures">
        <Pictures generation={generation} index={chosen} />
        {generation.parameters.n > 1 && (
          <Thumbnails generation={generation} index={chosen} onChoose={(each) => (index.value = each)} />
        )}
        {isUnsettled(generation) && <Progress generation={generation} />}
      </div>
      <Details generation={generation} index={chosen} />
    </article>
  )
}

interface Indexed {
  readonly generation: SchemaGeneration
  readonly index: number
}

function Pictures({ generation, index }: Indexed): JSX.Element {
  const { parameters, state, error } = generation
  const { width, height } = readSize(parameters.size)
  return (
    <div
      class="stage__frame"
      style={{ aspectRatio: `${width} / ${height}`, maxWidth: `min(100%, 66vh * ${width / height})` }}
    >
      {state === 'failed' || state === 'cancelled' ? (
        <div class="stage__ended">
          <Icon name={state === 'failed' ? 'warning' : 'stop'} size={22} />
          <p>{state === 'failed' ? (error?.message ?? 'It failed') : 'Cancelled'}</p>
        </div>
      ) : (
        <Picture generation={generation} index={index} />
      )}
    </div>
  )
}

function Thumbnails({
  generation,
  index,
  onChoose,
}: Indexed & { onChoose: (index: number) => void }): JSX.Element {
  return (
    <div class="thumbnails">
      {Array.from({ length: generation.parameters.n }, (_, each) => (
        <button
          key={each}
          type="button"
          class="thumbnails__one"
          aria-label={`Picture ${each + 1} of ${generation.parameters.n}`}
          aria-pressed={each === index}
          onClick={() => onChoose(each)}
        >
          <Picture generation={generation} index={each} size="small" />
        </button>
      ))}
    </div>
  )
}

function Progress({ generation }: { readonly generation: SchemaGeneration }): JSX.Element {
  const { id, parameters } = generation
  const live = liveOf(id).value
  const progress = progressOf(live, parameters.n)
  const problem = useSignal<Problem | undefined>(undefined)
  const isCancelling = useSignal(false)
  const stop = () => {
    isCancelling.value = true
    cancel(id)
      .catch((error: unknown) => (problem.value = explain(error)))
      .finally(() => (isCancelling.value = false))
  }
  return (
    <div class="progress">
      <progress class="progress__bar" aria-label="Progress" max={1} value={progress} />
      <div class="progress__row">
        <output class="progress__phase">{phaseOf(live)}</output>
        <Remaining endsAt={live.endsAt} />
        <Button size="s" icon="stop" disabled={isCancelling.value} onClick={stop}>
          Cancel
        </Button>
      </div>
      {problem.value && (
        <Notice problem={problem.value} onRetry={stop} onDismiss={() => (problem.value = undefined)} />
      )}
    </div>
  )
}

/** Short, because it is read out whenever it changes. */
function phaseOf({ hasStarted, queuePosition, pictures, connection }: Live): string {
  if (connection === 'lost') return 'Connection lost; it goes on meanwhile. Trying to reach the service…'
  if (!hasStarted) {
    if (queuePosition === undefined) return 'Waiting'
    return queuePosition === 0 ? 'Next in the queue' : `${queuePosition} before it in the queue`
  }
  return pictures.some(({ step, steps }) => step < steps) || pictures.length === 0 ? 'Drawing' : 'Finishing'
}

function Remaining({ endsAt }: Pick<Live, 'endsAt'>): JSX.Element {
  const now = useSignal(Date.now())
  useEffect(() => {
    const timer = setInterval(() => (now.value = Date.now()), 500)
    return () => clearInterval(timer)
  }, [])
  const seconds = endsAt === undefined ? undefined : Math.ceil((endsAt - now.value) / 1000)
  return (
    <span class="progress__remaining">
      {seconds === undefined || seconds <= 0 ? '' : `about ${duration(seconds)} left`}
    </span>
  )
}

function duration(seconds: number): string {
  if (seconds < 90) return `${seconds} s`
  return seconds < 5_400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3_600)} h`
}
