/** Where one says what to draw. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import { Button, IconButton } from '../shared/button.tsx'
import { Notice } from '../shared/notice.tsx'
import { Keys } from '../shared/shortcuts.tsx'
import { ask, askingProblem, isAsking } from './asking.ts'
import { change, draft } from './draft.ts'
import { loadModels, model, modelsProblem } from './models.ts'
import { Settings } from './settings.tsx'

const mostCharacters = 4_000

export function Composer(): JSX.Element {
  const { prompt } = draft.value
  const field = useRef<HTMLTextAreaElement>(null)
  const showsSettings = useSignal(false)
  useEffect(() => field.current?.focus(), [])
  useEffect(() => grow(field.current), [prompt])
  return (
    <form
      class="composer"
      aria-label="New picture"
      onSubmit={(event) => {
        event.preventDefault()
        void ask()
      }}
    >
      <div class="composer__prompt">
        <textarea
          ref={field}
          id="prompt"
          aria-label="Prompt"
          class="composer__text"
          rows={3}
          maxLength={mostCharacters}
          placeholder="What should it show?"
          spellcheck={false}
          value={prompt}
          onInput={(event) => change({ prompt: event.currentTarget.value })}
          onKeyDown={(event) => {
            const means = event.key === 'Enter' && !event.shiftKey && !event.isComposing
            if (!means) return
            event.preventDefault()
            void ask()
          }}
        />
        <div class="composer__row">
          <span class="composer__toggle">
            <IconButton
              label="Settings"
              icon="sliders"
              aria-expanded={showsSettings.value}
              aria-controls="settings"
              onClick={() => (showsSettings.value = !showsSettings.value)}
            />
          </span>
          <span class="composer__hint">
            {prompt === '' && (
              <>
                <Keys keys="Shift+Enter" /> new line
              </>
            )}
          </span>
          {prompt !== '' && (
            <IconButton
              label="Clear the prompt"
              icon="close"
              size="s"
              onClick={() => {
                change({ prompt: '' })
                field.current?.focus()
              }}
            />
          )}
          <Button
            kind="primary"
            type="submit"
            icon="spark"
            disabled={prompt.trim() === '' || !model.value}
            aria-busy={isAsking.value}
          >
            Generate
            <Keys keys="Enter" />
          </Button>
        </div>
      </div>
      {askingProblem.value && (
        <Notice
          problem={askingProblem.value}
          onRetry={() => void ask()}
          onDismiss={() => (askingProblem.value = undefined)}
        />
      )}
      {modelsProblem.value && <Notice problem={modelsProblem.value} onRetry={() => void loadModels()} />}
      {model.value && (
        <div id="settings" class="composer__settings" data-open={showsSettings.value}>
          <Settings model={model.value} />
        </div>
      )}
    </form>
  )
}

/** As tall as what is in it, between its three lines and a third of the window. */
function grow(area: HTMLTextAreaElement | null): void {
  if (!area) return
  area.style.height = 'auto'
  area.style.height = `${Math.min(area.scrollHeight, window.innerHeight / 3)}px`
}

export function focusPrompt(): void {
  document.querySelector<HTMLTextAreaElement>('#prompt')?.focus()
}
