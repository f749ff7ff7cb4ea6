/** What made a picture, and what can be done with it. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import type { SchemaGeneration } from '../../sdk/index.ts'
import { Button, IconButton } from '../shared/button.tsx'
import { copyText } from '../shared/clipboard.ts'
import { Dialog } from '../shared/dialog.tsx'
import { Notice } from '../shared/notice.tsx'
import { explain, type Problem } from '../shared/problem.ts'
import { atelier } from '../shared/session.ts'
import { toast } from '../shared/toast.tsx'
import { CodeDialog } from './code-dialog.tsx'
import { focusPrompt } from './composer.tsx'
import { draft, draftOf } from './draft.ts'
import { isUnsettled, remove } from './history.ts'

export interface DetailsProps {
  readonly generation: SchemaGeneration
  readonly index: number
}

export function Details({ generation, index }: DetailsProps): JSX.Element {
  const { parameters, images } = generation
  const image = images[index]
  const problem = useSignal<Problem | undefined>(undefined)
  const dialog = useSignal<'code' | 'delete' | undefined>(undefined)
  const attempt = (work: Promise<unknown>) => {
    work.catch((error: unknown) => (problem.value = explain(error)))
  }
  const seedIndex = parameters.seed_index + index
  return (
    <div class="details">
      <p class="details__prompt">{parameters.prompt}</p>
      <div class="details__actions">
        {image && (
          <Button
            size="s"
            kind="primary"
            icon="download"
            onClick={() => attempt(download(image.id, image.output_format))}
          >
            Download
          </Button>
        )}
        <Button size="s" icon="sliders" onClick={() => reuse(generation)}>
          Reuse
        </Button>
        <Button size="s" icon="copy" onClick={() => (dialog.value = 'code')}>
          Code
        </Button>
        {!isUnsettled(generation) && (
          <IconButton size="s" icon="trash" label="Delete" onClick={() => (dialog.value = 'delete')} />
        )}
      </div>
      {problem.value && <Notice problem={problem.value} onDismiss={() => (problem.value = undefined)} />}
      <dl class="facts">
        {factsOf(generation, index).map(([name, value]) => (
          <div key={name} class="facts__one">
            <dt>{name}</dt>
            <dd>
              {value}
              {name === 'Seed' && (
                <IconButton
                  size="s"
                  icon="copy"
                  label="Copy the seed"
                  onClick={() => attempt(copyText(String(parameters.seed)).then(() => toast('Seed copied')))}
                />
              )}
            </dd>
          </div>
        ))}
      </dl>
      <CodeDialog
        parameters={{ ...parameters, n: 1, seed_index: seedIndex }}
        open={dialog.value === 'code'}
        onClose={() => (dialog.value = undefined)}
      />
      <Dialog
        title="Delete for good?"
        open={dialog.value === 'delete'}
        onClose={() => (dialog.value = undefined)}
      >
        <p>
          The generation and its {parameters.n === 1 ? 'picture' : `${parameters.n} pictures`} will be gone
          from the service.
        </p>
        <div class="dialog__actions">
          <Button onClick={() => (dialog.value = undefined)}>Keep</Button>
          <Button
            kind="danger"
            icon="trash"
            onClick={() => {
              dialog.value = undefined
              attempt(remove(generation.id).then(() => toast('Deleted')))
            }}
          >
            Delete
          </Button>
        </div>
      </Dialog>
    </div>
  )
}

function reuse({ parameters, images }: SchemaGeneration): void {
  draft.value = draftOf(parameters, images[0]?.generated_size ?? parameters.size)
  toast('Settings taken over')
  focusPrompt()
}

async function download(id: string, format: string): Promise<void> {
  const { bytes, contentType } = await atelier.value.images.content(id)
  const url = URL.createObjectURL(new Blob([bytes], { type: contentType }))
  const link = document.createElement('a')
  link.href = url
  link.download = `${id}.${format}`
  link.click()
  // The browser has begun to read it by then.
  setTimeout(() => URL.revokeObjectURL(url), 10_000)
}

function factsOf(
  { parameters, images, timings, receipt, model, created_at }: SchemaGeneration,
  index: number,
): [string, string][] {
  const image = images[index]
  const { size, seed, seed_index, steps, guidance_scale, scheduler, negative_prompt } = parameters
  const facts: [string, string | undefined][] = [
    ['Seed', `${seed}${seed_index + index > 0 ? `, slice ${seed_index + index}` : ''}`],
    ['Size', size.replace('x', ' × ')],
    ['Made at', image?.upscaled ? image.generated_size.replace('x', ' × ') : undefined],
    ['Steps', String(steps)],
    ['Guidance', String(guidance_scale)],
    ['Sampler', scheduler],
    ['Model', model],
    ['Keeps away from', negative_prompt || undefined],
    ['File', image && `${image.output_format.toUpperCase()}, ${kilobytes(image.size_bytes)}`],
    ['Took', timings ? `${(timings.total_ms / 1000).toFixed(1)} s` : undefined],
    ['Energy', receipt?.energy_wh == null ? undefined : `${receipt.energy_wh.toPrecision(2)} Wh`],
    ['Prompt', image?.prompt_truncated ? 'too long for the model; its end was left out' : undefined],
    ['Asked', new Date(created_at).toLocaleString()],
  ]
  return facts.filter((fact): fact is [string, string] => fact[1] !== undefined)
}

const kilobytes = (bytes: number): string =>
  bytes < 1_000_000 ? `${Math.ceil(bytes / 1000)} kB` : `${(bytes / 1_000_000).toFixed(1)} MB`
