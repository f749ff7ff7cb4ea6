/** Finds guides, operations and objects by their words; the index comes with the first look for it. */
import { useSignal } from '@preact/signals'
import type MiniSearch from 'minisearch'
import type { JSX } from 'preact'
import { useRef } from 'preact/hooks'
import { serviceUrl } from '../shared/session.ts'
import { useShortcuts } from '../shared/shortcuts.tsx'
import type { Searchable } from './render/site.tsx'

const shown = 8

let index: Promise<MiniSearch<Searchable>> | undefined

async function loadIndex(): Promise<MiniSearch<Searchable>> {
  const [{ default: MiniSearch }, { searchables }] = await Promise.all([
    import('minisearch'),
    import('virtual:docs-search'),
  ])
  const made = new MiniSearch<Searchable>({
    fields: ['title', 'page', 'text'],
    storeFields: ['title', 'page', 'href'],
    searchOptions: { boost: { title: 4, page: 2 }, prefix: true, fuzzy: 0.15, combineWith: 'AND' },
  })
  made.addAll(searchables)
  return made
}

const shortcuts = [
  {
    keys: '/',
    does: 'Search the reference',
    run: () => document.querySelector<HTMLInputElement>('#search input')?.focus(),
  },
]

type Found = Pick<Searchable, 'title' | 'page' | 'href'>

export function Search(): JSX.Element {
  const words = useSignal('')
  const found = useSignal<readonly Found[]>([])
  const input = useRef<HTMLInputElement>(null)
  const list = useRef<HTMLUListElement>(null)
  useShortcuts(shortcuts)

  const look = async (text: string) => {
    words.value = text
    const results = (await (index ??= loadIndex())).search(text)
    // Whoever types on has asked for something else since.
    if (words.value === text) found.value = results.slice(0, shown) as unknown as Found[]
  }
  const move = (event: KeyboardEvent) => {
    const links = [...(list.current?.querySelectorAll('a') ?? [])]
    const at = links.findIndex((link) => link === document.activeElement)
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key]
    if (step !== undefined && links.length > 0) {
      event.preventDefault()
      const next = links[at + step] ?? (step < 0 ? input.current : undefined)
      next?.focus()
    } else if (event.key === 'Enter' && at < 0) links[0]?.click()
    else if (event.key === 'Escape') {
      words.value = ''
      input.current?.focus()
    }
  }
  return (
    // The keys are those of the field and of the links in it.
    // oxlint-disable-next-line no-static-element-interactions
    <search class="docs-search" onKeyDown={move}>
      <input
        ref={input}
        class="input"
        type="search"
        placeholder="Search"
        aria-label="Search the reference"
        aria-keyshortcuts="/"
        autocomplete="off"
        value={words.value}
        onFocus={() => void (index ??= loadIndex())}
        onInput={(event) => void look(event.currentTarget.value)}
      />
      {words.value.trim() !== '' && (
        <ul ref={list} class="docs-search__found">
          {found.value.map(({ title, page, href }) => (
            <li key={href}>
              <a href={`${serviceUrl}/${href}`} onClick={() => (words.value = '')}>
                <span>{title}</span>
                <small>{page}</small>
              </a>
            </li>
          ))}
        </ul>
      )}
      <output class="visually-hidden">
        {words.value.trim() === ''
          ? ''
          : found.value.length === 0
            ? 'Nothing found'
            : `${found.value.length} found`}
      </output>
    </search>
  )
}
