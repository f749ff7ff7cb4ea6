/** A picture's captions, edited where they stand: one a line, Enter saves, Escape leaves them as they were. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import type { SchemaDatasetItem } from '../../../sdk/index.ts'
import { Button } from '../../shared/button.tsx'
import { Icon } from '../../shared/icons.tsx'
import { toast } from '../../shared/toast.tsx'
import { ActionNotice } from '../parts.tsx'
import { useAction } from '../resource.ts'

export interface CaptionProps {
  readonly item: SchemaDatasetItem
  readonly onChange: (item: SchemaDatasetItem) => void
}

export function Caption({ item, onChange }: CaptionProps): JSX.Element {
  const text = useSignal<string | undefined>(undefined)
  const action = useAction()
  const editor = useRef<HTMLTextAreaElement>(null)
  const opener = useRef<HTMLButtonElement>(null)
  const wasEditing = useRef(false)
  const isEditing = text.value !== undefined
  useEffect(() => {
    if (isEditing) editor.current?.select()
    else if (wasEditing.current) opener.current?.focus()
    wasEditing.current = isEditing
  }, [isEditing])

  const save = () =>
    action.run(async (client) => {
      const captions = (text.value ?? '')
        .split('\n')
        .map((line) => line.trim())
        .filter((line) => line !== '')
      onChange(await client.datasets.updateItem(item.dataset_id, item.id, { captions }))
      text.value = undefined
      toast('Caption saved')
    })
  if (text.value === undefined)
    return (
      <button
        ref={opener}
        type="button"
        class="caption"
        data-missing={item.captions.length === 0}
        onClick={() => (text.value = item.captions.join('\n'))}
      >
        <span class="caption__text">{item.captions[0] ?? 'Add a caption'}</span>
        {item.captions.length > 1 && <span class="caption__more">+{item.captions.length - 1}</span>}
        <span class="caption__edit">
          <Icon name="pencil" size={12} />
          <span class="visually-hidden">Edit</span>
        </span>
      </button>
    )
  return (
    <form
      class="caption-form"
      onSubmit={(event) => {
        event.preventDefault()
        save()
      }}
    >
      <textarea
        ref={editor}
        class="input"
        rows={3}
        aria-label={`Captions of ${item.path}, one a line`}
        value={text.value}
        onInput={(event) => (text.value = event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === 'Escape') text.value = undefined
          if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
          event.preventDefault()
          save()
        }}
      />
      <ActionNotice of={action} />
      <div class="caption-form__actions">
        <Button size="s" kind="quiet" onClick={() => (text.value = undefined)}>
          Leave it
        </Button>
        <Button size="s" kind="primary" type="submit" disabled={action.isBusy.value}>
          Save
        </Button>
      </div>
    </form>
  )
}
