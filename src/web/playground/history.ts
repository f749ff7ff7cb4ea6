/** All generations that this visitor may see, newest first, as far as they were fetched; and which one is looked at. */
import { computed, signal } from '@preact/signals'
import type { SchemaGeneration } from '../../sdk/index.ts'
import { explain, type Problem } from '../shared/problem.ts'
import { atelier } from '../shared/session.ts'
import { follow, forgetAll } from './following.ts'

const pageSize = 24
const searchPageSize = 100

export const generations = signal<readonly SchemaGeneration[]>([])
export const historyProblem = signal<Problem | undefined>(undefined)
export const isLoading = signal(false)
/** Whether the first page has come. */
export const hasLoaded = signal(false)
const cursor = signal<string | null>(null)
export const hasMore = computed(() => !hasLoaded.value || cursor.value !== null)

/** From the address, so that a reload and a link show the same. */
export const selectedId = signal(idInAddress())
export const selected = computed(
  () => generations.value.find(({ id }) => id === selectedId.value) ?? generations.value[0],
)
export const query = signal('')

function idInAddress(): string {
  return /^#(gen_\w+)$/.exec(location.hash)?.[1] ?? ''
}

window.addEventListener('hashchange', () => {
  selectedId.value = idInAddress()
  void find(selectedId.value)
})

export function select(id: string): void {
  selectedId.value = id
  history.replaceState(null, '', `#${id}`)
}

/** @param offset -1 for the next newer one, 1 for the next older one */
export function selectBeside(offset: -1 | 1): void {
  const shown = found.value
  const at = shown.findIndex(({ id }) => id === selected.value?.id)
  const next = shown[at + offset]
  if (next) select(next.id)
}

/** What the words of the query are all in. */
export const found = computed(() => {
  const words = query.value.toLowerCase().split(/\s+/).filter(Boolean)
  if (words.length === 0) return generations.value
  return generations.value.filter(({ parameters, state }) => {
    const { prompt, negative_prompt, model, seed, size } = parameters
    const text = [prompt, negative_prompt, model, seed, size, state].join(' ').toLowerCase()
    return words.every((word) => text.includes(word))
  })
})

/** Puts generations in the place of what was known of them. */
export function learn(news: readonly SchemaGeneration[]): void {
  const byId = new Map(generations.value.map((each) => [each.id, each]))
  for (const each of news) byId.set(each.id, each)
  generations.value = [...byId.values()].sort(
    (a, b) => b.created_at.localeCompare(a.created_at) || b.id.localeCompare(a.id),
  )
  for (const each of news) if (isUnsettled(each)) follow(each.id, learn)
}

export const isUnsettled = ({ state }: Pick<SchemaGeneration, 'state'>): boolean =>
  state === 'queued' || state === 'running'

export function forget(id: string): void {
  generations.value = generations.value.filter((each) => each.id !== id)
}

/** Begins anew, as for another visitor. */
export async function loadHistory(): Promise<void> {
  forgetAll()
  generations.value = []
  cursor.value = null
  hasLoaded.value = false
  isLoading.value = false // what is under way is for somebody else
  await loadMore()
  await find(selectedId.value)
}

export async function loadMore(): Promise<void> {
  if (isLoading.value || !hasMore.value) return
  const client = atelier.value
  isLoading.value = true
  try {
    const limit = query.value === '' ? pageSize : searchPageSize
    const page = await client.generations.page({
      limit,
      ...(cursor.value !== null && { cursor: cursor.value }),
    })
    if (client !== atelier.value) return
    learn(page.data)
    cursor.value = page.next_cursor
    hasLoaded.value = true
    historyProblem.value = undefined
  } catch (error) {
    if (client === atelier.value) historyProblem.value = explain(error)
  } finally {
    if (client === atelier.value) isLoading.value = false
  }
}

/** One that is named in the address may lie far back. */
async function find(id: string): Promise<void> {
  if (id === '' || generations.value.some((each) => each.id === id)) return
  try {
    learn([await atelier.value.generations.retrieve(id)])
  } catch {
    // It was deleted, or is somebody else's: the newest is shown instead.
    if (selectedId.value === id) selectedId.value = ''
  }
}

export async function cancel(id: string): Promise<void> {
  learn([await atelier.value.generations.cancel(id)])
}

export async function remove(id: string): Promise<void> {
  const { value } = found
  const at = value.findIndex((each) => each.id === id)
  await atelier.value.generations.delete(id)
  const next = value[at + 1] ?? value[at - 1]
  if (selected.value?.id === id && next) select(next.id)
  forget(id)
}
