/** All that was made so far: found by its words, fetched as one scrolls. */
import type { JSX } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import type { SchemaGeneration } from '../../sdk/index.ts'
import { Icon } from '../shared/icons.tsx'
import { Notice } from '../shared/notice.tsx'
import { liveOf } from './following.ts'
import {
  found,
  generations,
  hasLoaded,
  hasMore,
  historyProblem,
  isLoading,
  isUnsettled,
  loadMore,
  query,
  select,
  selected,
} from './history.ts'
import { progressOf } from './live.ts'
import { Picture } from './picture.tsx'

/** As many hits as fill a window; a search reads on until it has them. */
const enough = 24

export function Gallery(): JSX.Element | null {
  const end = useRef<HTMLDivElement>(null)
  const shown = found.value
  const isSearching = query.value.trim() !== ''
  useEffect(() => {
    if (!end.current) return
    const observer = new IntersectionObserver(
      ([entry]) => {
        if (entry?.isIntersecting) void loadMore()
      },
      { rootMargin: '600px' },
    )
    observer.observe(end.current)
    return () => observer.disconnect()
    // Observed anew after each page: a short one may leave the end in sight, which is then no change.
  }, [generations.value.length, hasLoaded.value])
  useEffect(() => {
    if (isSearching && shown.length < enough && hasMore.value && !historyProblem.value) void loadMore()
  }, [query.value, shown.length, generations.value.length])
  if (hasLoaded.value && generations.value.length === 0) return null
  return (
    <section class="gallery" aria-label="History">
      <div class="gallery__head">
        <h2>History</h2>
        <div class="gallery__search">
          <Icon name="search" />
          <input
            id="search"
            class="input"
            type="search"
            aria-label="Search the history"
            placeholder="Search prompts and seeds"
            value={query.value}
            onInput={(event) => (query.value = event.currentTarget.value)}
          />
        </div>
      </div>
      <ul class="gallery__grid plain-list">
        {shown.map((generation) => (
          <li key={generation.id}>
            <Card generation={generation} />
          </li>
        ))}
        {!hasLoaded.value &&
          !historyProblem.value &&
          Array.from({ length: 6 }, (_, index) => (
            <li key={index} class="card card--coming" aria-hidden="true" />
          ))}
      </ul>
      {historyProblem.value && <Notice problem={historyProblem.value} onRetry={() => void loadMore()} />}
      <output class="gallery__end">{words(shown.length, isSearching)}</output>
      <div ref={end} />
    </section>
  )
}

function words(count: number, isSearching: boolean): string {
  if (isLoading.value) return isSearching ? 'Searching further back…' : 'Loading…'
  if (!isSearching) return ''
  if (count === 0) return 'Nothing with these words.'
  return count === 1 ? 'One hit' : `${count} hits`
}

function Card({ generation }: { readonly generation: SchemaGeneration }): JSX.Element {
  const { id, state, parameters } = generation
  const isSelected = selected.value?.id === id
  return (
    <button
      type="button"
      class="card"
      data-state={state}
      aria-label={`${parameters.prompt}${state === 'succeeded' ? '' : `, ${state}`}`}
      aria-current={isSelected ? 'true' : undefined}
      title={parameters.prompt}
      onClick={() => {
        select(id)
        document.querySelector('.stage')?.scrollIntoView({ block: 'nearest', behavior: 'smooth' })
      }}
    >
      {state === 'failed' || state === 'cancelled' ? (
        <span class="picture picture--blank">
          <Icon name={state === 'failed' ? 'warning' : 'stop'} size={20} />
        </span>
      ) : (
        <Picture generation={generation} index={0} size="small" />
      )}
      {parameters.n > 1 && <span class="card__count">{parameters.n}</span>}
      {isUnsettled(generation) && (
        <span
          class="card__progress"
          style={{ transform: `scaleX(${progressOf(liveOf(id).value, parameters.n)})` }}
        />
      )}
    </button>
  )
}
