/** Where a key is entered. It is kept in this tab's session storage and sent to this service alone. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { Button } from './button.tsx'
import { Dialog } from './dialog.tsx'
import { Field } from './field.tsx'
import { apiKey, isAskingForKey } from './session.ts'
import { toast } from './toast.tsx'

export function KeyDialog(): JSX.Element {
  const close = () => (isAskingForKey.value = false)
  return (
    <Dialog title="Your key" open={isAskingForKey.value} onClose={close}>
      <KeyForm onDone={close} />
    </Dialog>
  )
}

function KeyForm({ onDone }: { readonly onDone: () => void }): JSX.Element {
  const text = useSignal(apiKey.value)
  const save = (key: string, message: string) => {
    apiKey.value = key
    toast(message)
    onDone()
  }
  const submit = (event: Event) => {
    event.preventDefault()
    const key = text.value.trim()
    if (key !== '') save(key, 'Key saved for this tab')
  }
  return (
    <form class="field" onSubmit={submit}>
      <Field
        label="API key"
        hint="It begins with atl_. It stays in this tab until you close it, and goes to this service only."
      >
        {(control) => (
          <input
            {...control}
            class="input"
            type="password"
            autocomplete="off"
            spellcheck={false}
            // oxlint-disable-next-line no-autofocus
            autofocus
            value={text.value}
            onInput={(event) => (text.value = event.currentTarget.value)}
          />
        )}
      </Field>
      <div class="dialog__actions">
        {apiKey.value !== '' && (
          <Button kind="danger" onClick={() => save('', 'Key forgotten')}>
            Forget it
          </Button>
        )}
        <Button kind="primary" type="submit" disabled={text.value.trim() === ''}>
          Use this key
        </Button>
      </div>
    </form>
  )
}
