/** A dataset's pictures with their captions, which can be edited where they stand; more come as one scrolls. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import type { DatasetItemFilters, SchemaDatasetItem } from '../../../sdk/index.ts'
import { Button } from '../../shared/button.tsx'
import { Segments } from '../../shared/field.tsx'
import { Notice } from '../../shared/notice.tsx'
import { explain, type Problem } from '../../shared/problem.ts'
import { atelier } from '../../shared/session.ts'
import { Caption } from './caption.tsx'

type Filter = 'all' | NonNullable<DatasetItemFilters['filter']>

const filters: readonly { readonly value: Filter; readonly name: string }[] = [
  { value: 'all', name: 'All' },
  { value: 'uncaptioned', name: 'No caption' },
  { value: 'problems', name: 'Problems' },
]

const nothing: Readonly<Record<Filter, string>> = {
  all: 'There are no pictures in it.',
  uncaptioned: 'Every picture has a caption.',
  problems: 'Nothing is wrong with any picture.',
}

export function Items({ id }: { readonly id: string }): JSX.Element {
  const filter = useSignal<Filter>('all')
  return (
    <>
      <div class="items__filter">
        <Segments
          label="Show"
          options={filters}
          value={filter.value}
          onChange={(next) => (filter.value = next)}
        />
      </div>
      <Grid key={filter.value} id={id} filter={filter.value} />
    </>
  )
}

function Grid({ id, filter }: { readonly id: string; readonly filter: Filter }): JSX.Element {
  const items = useSignal<readonly SchemaDatasetItem[]>([])
  /** Of the page to come; `null` after the last. */
  const cursor = useSignal<string | null | undefined>(undefined)
  const isLoading = useSignal(false)
  const problem = useSignal<Problem | undefined>(undefined)
  const end = useRef<HTMLDivElement>(null)

  const load = async () => {
    if (isLoading.value || cursor.value === null) return
    isLoading.value = true
    problem.value = undefined
    try {
      const page = await atelier.value.datasets.itemPage(id, {
        limit: 48,
        ...(filter !== 'all' && { filter }),
        ...(cursor.value !== undefined && { cursor: cursor.value }),
      })
      items.value = [...items.value, ...page.data]
      cursor.value = page.next_cursor
    } catch (error) {
      problem.value = explain(error)
    } finally {
      isLoading.value = false
    }
  }
  useEffect(() => {
    const seen = new IntersectionObserver(
      (entries) => {
        if (entries.some(({ isIntersecting }) => isIntersecting)) void load()
      },
      { rootMargin: '400px' },
    )
    if (end.current) seen.observe(end.current)
    return () => seen.disconnect()
  }, [items.value.length])

  const replace = (changed: SchemaDatasetItem) => {
    items.value = items.value.map((item) => (item.id === changed.id ? changed : item))
  }
  return (
    <>
      {cursor.value === null && items.value.length === 0 && <p class="quiet">{nothing[filter]}</p>}
      <ul class="items" aria-label="Pictures">
        {items.value.map((item) => (
          <li key={item.id} class="items__one">
            <a class="items__picture" href={item.url} target="_blank" rel="noreferrer" title={item.path}>
              <img
                src={`${item.url}&max_side=320`}
                alt={item.captions[0] ?? item.path}
                width={item.width}
                height={item.height}
                loading="lazy"
                decoding="async"
              />
            </a>
            <Caption item={item} onChange={replace} />
            {item.problems.map(({ code, message }) => (
              <p key={code} class="items__problem">
                {message}
              </p>
            ))}
          </li>
        ))}
      </ul>
      {problem.value && <Notice problem={problem.value} onRetry={() => void load()} />}
      <div ref={end} class="items__end">
        {cursor.value !== null && items.value.length > 0 && (
          <Button size="s" disabled={isLoading.value} onClick={() => void load()}>
            Show more
          </Button>
        )}
      </div>
    </>
  )
}
