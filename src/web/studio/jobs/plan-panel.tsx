/** The dry run: what the job would take, before there is one. */
import type { JSX } from 'preact'
import type { SchemaFineTuningPlan } from '../../../sdk/index.ts'
import { Button } from '../../shared/button.tsx'
import { Icon } from '../../shared/icons.tsx'
import { Notice } from '../../shared/notice.tsx'
import type { Problem } from '../../shared/problem.ts'
import { bytes, duration, figure, percent } from '../format.ts'
import { Figures } from '../parts.tsx'

export interface PlanPanelProps {
  readonly plan: SchemaFineTuningPlan | undefined
  readonly problem: Problem | undefined
  readonly isPlanning: boolean
  readonly isCreating: boolean
  readonly onRetry: () => void
}

export function PlanPanel({ plan, problem, isPlanning, isCreating, onRetry }: PlanPanelProps): JSX.Element {
  return (
    <section class="panel plan" aria-label="Plan" aria-busy={isPlanning}>
      <div class="panel__head">
        <h2>What it will take</h2>
        <output class="quiet">
          {isPlanning ? 'Planning …' : problem ? 'Refused' : 'Nothing is created yet'}
        </output>
      </div>
      {problem && <Notice problem={problem} onRetry={onRetry} />}
      {plan && !problem && <Estimate plan={plan} />}
      <Button
        kind="primary"
        type="submit"
        icon="spark"
        disabled={isPlanning || isCreating || problem !== undefined || plan === undefined}
      >
        {isCreating ? 'Creating …' : 'Create the job'}
      </Button>
    </section>
  )
}

function Estimate({ plan: { estimate, stages } }: { readonly plan: SchemaFineTuningPlan }): JSX.Element {
  const { use, memory_bytes: memory, memory_limit_bytes: limit } = estimate
  const isTight = memory > limit
  return (
    <>
      <Figures
        of={[
          {
            name: 'Time',
            value: duration(estimate.expected_seconds),
            note: estimate.stages.every(({ basis }) => basis === 'measured')
              ? 'by what steps took before'
              : 'estimated; nobody else asks meanwhile',
          },
          {
            name: 'Memory',
            value: bytes(memory),
            note: `${percent(memory / limit)} of ${bytes(limit)}`,
          },
          {
            name: 'Energy',
            value: `${figure(use.energy_kwh * 1000)} Wh`,
            note: `${figure(use.co2_grams)} g CO₂${use.cost === null ? '' : ` · costs ${figure(use.cost)}`}`,
          },
          {
            name: 'Disk',
            value: bytes(estimate.disk_bytes),
            note: `${bytes(estimate.checkpoint_bytes)} a checkpoint`,
          },
        ]}
      />
      <ol class="plan__stages" aria-label="Stages">
        {stages.map(({ kind, steps, resolution, batch_size, learning_rate }, index) => (
          // Stages of a plan have nothing but their place.
          // oxlint-disable-next-line no-array-index-key
          <li key={index} class="plan__stage">
            <span>
              <strong>{kind}</strong> {steps.toLocaleString('en')} steps of {batch_size} at {resolution} px,
              rate {figure(learning_rate)}
            </span>
            <span>{duration(estimate.stages[index]?.expected_seconds ?? 0)}</span>
          </li>
        ))}
      </ol>
      <p class="quiet">
        Trains {figure(estimate.trained_parameters)} of {figure(estimate.parameters)} numbers on{' '}
        {estimate.pictures.toLocaleString('en')} pictures.
      </p>
      {(isTight || estimate.warnings.length > 0) && (
        <ul class="warnings" aria-label="Warnings">
          {estimate.warnings.map((warning) => (
            <li key={warning}>
              <Icon name="warning" size={14} />
              {warning}
            </li>
          ))}
        </ul>
      )}
    </>
  )
}
