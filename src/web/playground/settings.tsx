/** Everything about a picture besides its prompt. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import type { SchemaModel } from '../../sdk/index.ts'
import { Button, IconButton } from '../shared/button.tsx'
import { Field, Segments } from '../shared/field.tsx'
import {
  change,
  draft,
  drawSeed,
  formats,
  schedulers,
  sizeOf,
  untouched,
  type Format,
  type Scheduler,
} from './draft.ts'
import { models } from './models.ts'
import { ShapePicker } from './shape-picker.tsx'
import { enlarge, scalesOf, type Size } from './sizes.ts'

const counts = ['1', '2', '4', '8'] as const

const schedulerNames: Readonly<Record<Scheduler, string>> = {
  'dpm++_2m': 'DPM-Solver++ 2M',
  'dpm++_2m_karras': 'DPM-Solver++ 2M, Karras',
  ddim: 'DDIM',
  euler: 'Euler',
  lcm: 'LCM',
}

const byPixels = ({ width, height }: Size) => `${width} × ${height}`

export function Settings({ model }: { readonly model: SchemaModel }): JSX.Element {
  const { value } = draft
  const { bucket, scale } = sizeOf(value, model)
  return (
    <div class="settings">
      {models.value.length > 1 && (
        <Field label="Model">
          {(control) => (
            <select
              {...control}
              class="input"
              value={model.id}
              onChange={(event) => change({ model: event.currentTarget.value })}
            >
              {models.value.map(({ id, state }) => (
                <option key={id} value={id}>
                  {state === 'loaded' ? id : `${id} (loaded on first use)`}
                </option>
              ))}
            </select>
          )}
        </Field>
      )}
      <ShapePicker model={model} bucket={bucket} />
      <Field label="Size">
        {(control) => (
          <select
            {...control}
            class="input"
            value={scale}
            onChange={(event) => change({ scale: Number(event.currentTarget.value) })}
          >
            {scalesOf(model, bucket).map((each) => (
              <option key={each} value={each}>
                {byPixels(enlarge(bucket, each))}
                {each === 1 ? ', as the model makes it' : `, enlarged ${each} ×`}
              </option>
            ))}
          </select>
        )}
      </Field>
      <Segments
        label="Pictures"
        value={String(value.count)}
        options={counts.map((count) => ({ value: count as string, name: count }))}
        onChange={(count) => change({ count: Number(count) })}
      />
      <SeedField />
      <MoreSettings model={model} />
    </div>
  )
}

function SeedField(): JSX.Element {
  const { seed } = draft.value
  const isLocked = seed !== undefined
  return (
    <Field
      label="Seed"
      hint={isLocked ? 'The same seed makes the same picture again.' : 'Another one each time.'}
    >
      {(control) => (
        <div class="seed">
          <input
            {...control}
            class="input"
            inputMode="numeric"
            placeholder="random"
            value={seed ?? ''}
            onInput={({ currentTarget }) => {
              const digits = currentTarget.value.replaceAll(/\D/g, '').slice(0, 16)
              const number = digits === '' ? undefined : Math.min(Number(digits), Number.MAX_SAFE_INTEGER)
              currentTarget.value = number === undefined ? '' : String(number)
              change({ seed: number })
            }}
          />
          <IconButton
            label="Draw a seed"
            icon="dice"
            kind="plain"
            onClick={() => change({ seed: drawSeed() })}
          />
          <IconButton
            label={isLocked ? 'Unlock the seed' : 'Lock a seed'}
            icon={isLocked ? 'lock' : 'unlock'}
            kind="plain"
            aria-pressed={isLocked}
            onClick={() => change({ seed: isLocked ? undefined : drawSeed() })}
          />
        </div>
      )}
    </Field>
  )
}

function MoreSettings({ model }: { readonly model: SchemaModel }): JSX.Element {
  const { value } = draft
  const isOpen = useSignal(false)
  const { negativePrompt, steps, guidanceScale, scheduler, format } = value
  const reset = {
    negativePrompt: '',
    steps: 20,
    guidanceScale: 4.5,
    scheduler: undefined,
    format: untouched.format,
  }
  const isTouched = Object.entries(reset).some(([name, plain]) => value[name as keyof typeof reset] !== plain)
  return (
    <details class="more" open={isOpen.value} onToggle={(event) => (isOpen.value = event.currentTarget.open)}>
      <summary class="more__summary">
        More settings
        {isTouched && <span class="more__mark">changed</span>}
      </summary>
      <div class="settings">
        <Field label="Steps" value={steps} hint="More are slower and finer.">
          {(control) => (
            <input
              {...control}
              class="slider"
              type="range"
              min={1}
              max={100}
              value={steps}
              onInput={(event) => change({ steps: event.currentTarget.valueAsNumber })}
            />
          )}
        </Field>
        <Field
          label="Guidance"
          value={guidanceScale.toFixed(1)}
          hint="How strictly the prompt is followed; up to 1 there is none."
        >
          {(control) => (
            <input
              {...control}
              class="slider"
              type="range"
              min={0}
              max={20}
              step={0.1}
              value={guidanceScale}
              onInput={(event) => change({ guidanceScale: event.currentTarget.valueAsNumber })}
            />
          )}
        </Field>
        <Field label="Negative prompt" hint="What it should keep away from.">
          {(control) => (
            <textarea
              {...control}
              class="input"
              rows={2}
              maxLength={4_000}
              value={negativePrompt}
              onInput={(event) => change({ negativePrompt: event.currentTarget.value })}
            />
          )}
        </Field>
        <Field label="Sampler">
          {(control) => (
            <select
              {...control}
              class="input"
              value={scheduler ?? ''}
              onChange={(event) => {
                const chosen = schedulers.find((each) => each === event.currentTarget.value)
                change({ scheduler: chosen })
              }}
            >
              <option value="">{`The model's own (${schedulerNames[model.default_scheduler]})`}</option>
              {schedulers.map((each) => (
                <option key={each} value={each}>
                  {schedulerNames[each]}
                </option>
              ))}
            </select>
          )}
        </Field>
        <Segments<Format>
          label="Format"
          value={format}
          options={formats.map((each) => ({ value: each, name: each.toUpperCase() }))}
          onChange={(chosen) => change({ format: chosen })}
        />
        {isTouched && (
          <Button size="s" kind="quiet" icon="refresh" onClick={() => change(reset)}>
            Back to the defaults
          </Button>
        )}
      </div>
    </details>
  )
}
