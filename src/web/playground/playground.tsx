/** The playground: words in, pictures out. */
import './playground.css'
import { effect, untracked } from '@preact/signals'
import type { JSX } from 'preact'
import { useEffect } from 'preact/hooks'
import { atelier } from '../shared/session.ts'
import { useShortcuts, type Shortcut } from '../shared/shortcuts.tsx'
import { ask } from './asking.ts'
import { Composer, focusPrompt } from './composer.tsx'
import { change, drawSeed } from './draft.ts'
import { Gallery } from './gallery.tsx'
import { generations, hasLoaded, loadHistory, selectBeside, selected } from './history.ts'
import { loadModels } from './models.ts'
import { Stage } from './stage.tsx'

const shortcuts: readonly Shortcut[] = [
  { keys: 'mod+Enter', does: 'Generate', run: () => void ask() },
  { keys: 'p', does: 'To the prompt', run: focusPrompt },
  {
    keys: '/',
    does: 'Search the history',
    run: () => document.querySelector<HTMLElement>('#search')?.focus(),
  },
  { keys: 'ArrowLeft', does: 'Newer picture', run: () => selectBeside(-1) },
  { keys: 'ArrowRight', does: 'Older picture', run: () => selectBeside(1) },
  { keys: 'd', does: 'Draw a seed', run: () => change({ seed: drawSeed() }) },
]

const ideas = [
  'a cat face on a dark blue background',
  'a rocket on a pale blue background',
  'two lemons side by side',
  'a slice of pizza',
]

export function Playground(): JSX.Element {
  useShortcuts(shortcuts)
  useEffect(
    () =>
      effect(() => {
        // Another key is another visitor.
        void atelier.value
        untracked(() => void Promise.all([loadModels(), loadHistory()]))
      }),
    [],
  )
  return (
    <div class="playground">
      <h1 class="visually-hidden">Playground</h1>
      <Composer />
      <div class="playground__results">
        {selected.value && <Stage generation={selected.value} />}
        {hasLoaded.value && generations.value.length === 0 && <Ideas />}
        <Gallery />
      </div>
    </div>
  )
}

function Ideas(): JSX.Element {
  return (
    <div class="empty">
      <h2>Nothing drawn yet</h2>
      <p>Say what you would like to see, or begin with one of these.</p>
      <ul class="ideas plain-list">
        {ideas.map((prompt) => (
          <li key={prompt}>
            <button
              type="button"
              class="ideas__one"
              onClick={() => {
                change({ prompt })
                void ask()
              }}
            >
              {prompt}
            </button>
          </li>
        ))}
      </ul>
    </div>
  )
}
