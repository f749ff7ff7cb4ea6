/** The stages of a job, one after the other, each with the numbers that it will have. */
import type { JSX } from 'preact'
import type { SchemaFineTuningStage, SchemaStageKind } from '../../../sdk/index.ts'
import { Button, IconButton } from '../../shared/button.tsx'
import { Field } from '../../shared/field.tsx'
import { Panel } from '../parts.tsx'
import { stageDraft, type StageDraft, type StageNumber } from './draft.ts'
import { NumberField } from './number-field.tsx'

const kinds: readonly { readonly kind: SchemaStageKind; readonly name: string; readonly what: string }[] = [
  { kind: 'align', name: 'Align', what: 'Text to picture: a subject, a style, new words' },
  { kind: 'aesthetic', name: 'Aesthetic', what: 'Quality, at the model’s own size, on the best pictures' },
  { kind: 'pixel', name: 'Pixel', what: 'What pictures are made of; for models from nothing' },
  { kind: 'vae', name: 'Autoencoder', what: 'Pictures to latents and back; for models from nothing' },
]

const usual: readonly (readonly [StageNumber, string])[] = [
  ['resolution', 'Resolution, px'],
  ['steps', 'Steps'],
  ['batch_size', 'Pictures a step'],
  ['learning_rate', 'Learning rate'],
]
const further: readonly (readonly [StageNumber, string])[] = [
  ['warmup_steps', 'Warm-up steps'],
  ['weight_decay', 'Weight decay'],
  ['gradient_clip', 'Gradient clip'],
  ['ema_decay', 'Decay of averaged weights'],
  ['caption_dropout', 'Captions left out, share'],
]

export interface StagesProps {
  readonly stages: readonly StageDraft[]
  readonly planned: readonly SchemaFineTuningStage[]
  readonly errorAt: (param: string) => string | undefined
  readonly onChange: (stages: readonly StageDraft[]) => void
}

export function Stages({ stages, planned, errorAt, onChange }: StagesProps): JSX.Element {
  const change = (key: number, changes: Partial<StageDraft>) =>
    onChange(stages.map((stage) => (stage.key === key ? { ...stage, ...changes } : stage)))
  return (
    <Panel
      title={stages.length === 1 ? 'Stage' : `${stages.length} stages`}
      aside={
        <Button
          size="s"
          icon="plus"
          disabled={stages.length >= 16}
          onClick={() => onChange([...stages, stageDraft('aesthetic')])}
        >
          Add a stage
        </Button>
      }
    >
      <ol class="stages">
        {stages.map((stage, index) => (
          <li key={stage.key} class="stage">
            <StageFields
              stage={stage}
              index={index}
              planned={planned[index]}
              errorAt={errorAt}
              onChange={(changes) => change(stage.key, changes)}
              {...(stages.length > 1 && {
                onRemove: () => onChange(stages.filter(({ key }) => key !== stage.key)),
              })}
            />
          </li>
        ))}
      </ol>
    </Panel>
  )
}

interface StageFieldsProps {
  readonly stage: StageDraft
  readonly index: number
  readonly planned: SchemaFineTuningStage | undefined
  readonly errorAt: (param: string) => string | undefined
  readonly onChange: (changes: Partial<StageDraft>) => void
  readonly onRemove?: () => void
}

function StageFields({ stage, index, planned, errorAt, onChange, onRemove }: StageFieldsProps): JSX.Element {
  const number = ([name, label]: readonly [StageNumber, string]) => (
    <NumberField
      key={name}
      label={label}
      fallback={planned?.[name]}
      value={stage.numbers[name] ?? ''}
      error={errorAt(`stages.${index}.${name}`)}
      onChange={(value) => onChange({ numbers: { ...stage.numbers, [name]: value } })}
    />
  )
  const kind = kinds.find((each) => each.kind === stage.kind)
  return (
    <>
      <div class="stage__head">
        <Field label={`Stage ${index + 1}`} hint={kind?.what} error={errorAt(`stages.${index}.kind`)}>
          {(control) => (
            <select
              {...control}
              class="input"
              value={stage.kind}
              onChange={(event) => onChange({ kind: event.currentTarget.value as SchemaStageKind })}
            >
              {kinds.map((each) => (
                <option key={each.kind} value={each.kind}>
                  {each.name}
                </option>
              ))}
            </select>
          )}
        </Field>
        {onRemove && (
          <IconButton label={`Remove stage ${index + 1}`} icon="trash" size="s" onClick={onRemove} />
        )}
      </div>
      <div class="fields fields--narrow">{usual.map(number)}</div>
      <details class="stage__further">
        <summary>More settings</summary>
        <div class="fields fields--narrow">
          {further.map(number)}
          <Choice
            label="Schedule"
            options={['constant', 'cosine']}
            planned={planned?.schedule}
            value={stage.schedule}
            onChange={(schedule) => onChange({ schedule })}
          />
          <Choice
            label="Shapes"
            options={['square', 'all']}
            planned={planned && (planned.multi_aspect ? 'all' : 'square')}
            value={stage.aspects}
            onChange={(aspects) => onChange({ aspects })}
          />
          <Choice
            label="Recompute"
            options={['none', 'blocks']}
            planned={planned?.train.recompute}
            value={stage.recompute}
            onChange={(recompute) => onChange({ recompute })}
          />
          <Choice
            label="Precision"
            options={['float32', 'float16']}
            planned={planned?.train.precision}
            value={stage.precision}
            onChange={(precision) => onChange({ precision })}
          />
          <NumberField
            label="Least aesthetic score"
            placeholder="any"
            value={stage.minScore}
            error={errorAt(`stages.${index}.filter.min_aesthetic_score`)}
            onChange={(minScore) => onChange({ minScore })}
          />
        </div>
      </details>
    </>
  )
}

interface ChoiceProps<T extends string> {
  readonly label: string
  readonly options: readonly T[]
  /** What counts where nothing is chosen. */
  readonly planned: T | undefined
  readonly value: T | ''
  readonly onChange: (value: T | '') => void
}

function Choice<T extends string>({ label, options, planned, value, onChange }: ChoiceProps<T>): JSX.Element {
  return (
    <Field label={label}>
      {(control) => (
        <select
          {...control}
          class="input"
          value={value}
          onChange={(event) => {
            const chosen = event.currentTarget.value
            onChange(options.find((option) => option === chosen) ?? '')
          }}
        >
          <option value="">{planned === undefined ? 'default' : `default: ${planned}`}</option>
          {options.map((option) => (
            <option key={option} value={option}>
              {option}
            </option>
          ))}
        </select>
      )}
    </Field>
  )
}
