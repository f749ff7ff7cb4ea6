/** The request that makes a picture again, to be copied. */
import { signal } from '@preact/signals'
import type { JSX } from 'preact'
import type { SchemaImageParameters } from '../../sdk/index.ts'
import { Button } from '../shared/button.tsx'
import { copyText } from '../shared/clipboard.ts'
import { Dialog } from '../shared/dialog.tsx'
import { Segments } from '../shared/field.tsx'
import { explain } from '../shared/problem.ts'
import { apiKey, serviceUrl } from '../shared/session.ts'
import { toast } from '../shared/toast.tsx'
import { languages, snippet, type Language } from './snippets.ts'

/** Whoever wants curl once wants it again. */
const language = signal<Language>('curl')

export interface CodeDialogProps {
  readonly parameters: SchemaImageParameters
  readonly open: boolean
  readonly onClose: () => void
}

export function CodeDialog({ parameters, open, onClose }: CodeDialogProps): JSX.Element {
  const text = snippet(language.value, parameters, { serviceUrl, needsKey: apiKey.value !== '' })
  const copy = () =>
    copyText(text).then(
      () => toast('Code copied'),
      (error: unknown) => toast(explain(error).advice),
    )
  return (
    <Dialog title="The same picture again" open={open} width="wide" onClose={onClose}>
      <Segments
        label="With"
        value={language.value}
        options={languages}
        onChange={(chosen) => (language.value = chosen)}
      />
      {/* It scrolls, so the keyboard must reach it. */}
      {/* oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <pre class="code" tabIndex={0}>
        <code>{text}</code>
      </pre>
      <div class="dialog__actions">
        <Button kind="primary" icon="copy" onClick={() => void copy()}>
          Copy
        </Button>
      </div>
    </Dialog>
  )
}
