/** What is drawn on the way, each always from the same seed, so that only the weights differ. */
import type { JSX } from 'preact'
import { Button, IconButton } from '../../shared/button.tsx'
import { promptDraft, type PromptDraft } from './draft.ts'

export interface PromptsProps {
  readonly prompts: readonly PromptDraft[]
  readonly onChange: (prompts: readonly PromptDraft[]) => void
}

const most = 16

export function Prompts({ prompts, onChange }: PromptsProps): JSX.Element {
  const change = (key: number, changes: Partial<PromptDraft>) =>
    onChange(prompts.map((each) => (each.key === key ? { ...each, ...changes } : each)))
  return (
    <>
      {prompts.length === 0 && (
        <p class="quiet">None yet. With two or three you see what the model learns while it does.</p>
      )}
      <ol class="prompts">
        {prompts.map(({ key, prompt, seed }, index) => (
          <li key={key} class="prompts__one">
            <input
              class="input"
              aria-label={`Prompt ${index + 1}`}
              placeholder="What to draw"
              maxLength={4000}
              value={prompt}
              onInput={(event) => change(key, { prompt: event.currentTarget.value })}
            />
            <input
              class="input prompts__seed"
              type="number"
              min={0}
              aria-label={`Seed of prompt ${index + 1}`}
              placeholder="seed"
              value={seed}
              onInput={(event) => change(key, { seed: event.currentTarget.value })}
            />
            <IconButton
              label={`Remove prompt ${index + 1}`}
              icon="close"
              size="s"
              onClick={() => onChange(prompts.filter((each) => each.key !== key))}
            />
          </li>
        ))}
      </ol>
      <div>
        <Button
          size="s"
          icon="plus"
          disabled={prompts.length >= most}
          onClick={() => onChange([...prompts, promptDraft('', prompts.length + 1)])}
        >
          Add a prompt
        </Button>
      </div>
    </>
  )
}
