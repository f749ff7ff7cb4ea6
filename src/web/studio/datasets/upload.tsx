/** Bringing pictures: an archive that is dropped or chosen, its name, and how far it is sent. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { useEffect, useId, useRef } from 'preact/hooks'
import { createAtelier } from '../../../sdk/index.ts'
import { Button } from '../../shared/button.tsx'
import { Field } from '../../shared/field.tsx'
import { Icon } from '../../shared/icons.tsx'
import { Notice } from '../../shared/notice.tsx'
import { explain, type Problem } from '../../shared/problem.ts'
import { apiKey, serviceUrl } from '../../shared/session.ts'
import { toast } from '../../shared/toast.tsx'
import { bytes, percent } from '../format.ts'
import { go } from '../route.ts'
import { sendingFetch } from './sending.ts'

const hour = 3_600_000

export function Upload(): JSX.Element {
  const file = useSignal<File | undefined>(undefined)
  const name = useSignal('')
  const sentBytes = useSignal<number | undefined>(undefined)
  const problem = useSignal<Problem | undefined>(undefined)
  const isOver = useSignal(false)
  const ending = useRef<AbortController>(null)
  const chooser = useId()
  useEffect(() => () => ending.current?.abort(), [])

  const choose = (chosen: File | undefined) => {
    if (!chosen || sentBytes.value !== undefined) return
    file.value = chosen
    problem.value = undefined
    name.value = chosen.name.replace(/(?:\.tar)?\.\w+$/, '').slice(0, 200)
  }
  const send = async (archive: File) => {
    const aborting = new AbortController()
    ending.current = aborting
    sentBytes.value = 0
    problem.value = undefined
    const fetch = sendingFetch({ body: archive, onSent: (sent) => (sentBytes.value = sent) })
    const client = createAtelier({
      baseUrl: serviceUrl,
      apiKey: apiKey.value || undefined,
      timeoutMs: 24 * hour,
      fetch,
    })
    try {
      const request = { name: name.value.trim() }
      const { id } = await client.datasets.upload(archive, request, { signal: aborting.signal })
      toast('All of it has arrived')
      go({ view: 'dataset', id })
    } catch (error) {
      if (!aborting.signal.aborted) problem.value = explain(error)
    } finally {
      sentBytes.value = undefined
    }
  }
  const submit = (event: Event) => {
    event.preventDefault()
    if (file.value && sentBytes.value === undefined) void send(file.value)
  }
  return (
    <form class="upload" onSubmit={submit} aria-label="Upload a dataset">
      <div
        class="upload__target"
        data-over={isOver.value}
        onDragOver={(event) => {
          event.preventDefault()
          isOver.value = true
        }}
        onDragLeave={() => (isOver.value = false)}
        onDrop={(event) => {
          event.preventDefault()
          isOver.value = false
          choose(event.dataTransfer?.files[0])
        }}
      >
        <Icon name="upload" size={20} />
        <p>
          <label class="upload__choose" for={chooser}>
            {file.value ? file.value.name : 'Choose an archive'}
          </label>
          {file.value ? ` · ${bytes(file.value.size)}` : ' or drop it here'}
        </p>
        <input
          id={chooser}
          class="upload__file"
          type="file"
          accept=".zip,.tar,.gz,.tgz"
          aria-describedby={`${chooser}-about`}
          onChange={(event) => choose(event.currentTarget.files?.[0])}
        />
        <p id={`${chooser}-about`} class="field__hint">
          A zip, tar or tar.gz of pictures, each with its caption beside it (<code>cat.jpg</code> and{' '}
          <code>cat.txt</code>), or with a <code>captions.jsonl</code>.
        </p>
      </div>
      {file.value && (
        <div class="upload__row">
          <Field label="Name">
            {(control) => (
              <input
                {...control}
                class="input"
                required
                maxLength={200}
                value={name.value}
                onInput={(event) => (name.value = event.currentTarget.value)}
              />
            )}
          </Field>
          {sentBytes.value === undefined ? (
            <Button kind="primary" icon="upload" type="submit" disabled={name.value.trim() === ''}>
              Upload
            </Button>
          ) : (
            <Button icon="close" onClick={() => ending.current?.abort()}>
              Stop
            </Button>
          )}
        </div>
      )}
      {file.value && sentBytes.value !== undefined && (
        <Progress name="Uploading" done={sentBytes.value} of={file.value.size} />
      )}
      {problem.value && (
        <Notice problem={problem.value} onRetry={() => file.value && void send(file.value)} />
      )}
    </form>
  )
}

function Progress({ name, done, of }: { readonly name: string; readonly done: number; readonly of: number }) {
  const share = of === 0 ? 1 : Math.min(1, done / of)
  return (
    <div class="progress-line">
      <progress class="progress" aria-label={name} max={1} value={share} />
      <span>
        {percent(share)} of {bytes(of)}
      </span>
    </div>
  )
}
