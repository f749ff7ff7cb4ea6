/** Loss, gradient norm, learning rate and speed over the steps, as they come. */
import { useSignal, useSignalEffect } from '@preact/signals'
import type { JSX } from 'preact'
import type { SchemaFineTuningMetric } from '../../../sdk/index.ts'
import { Notice } from '../../shared/notice.tsx'
import { explain, type Problem } from '../../shared/problem.ts'
import { atelier } from '../../shared/session.ts'
import { figure } from '../format.ts'
import { isFinal } from '../resource.ts'
import { Chart } from './chart.tsx'
import { smoothed } from './smoothing.ts'

/** More points than this nobody can tell apart. */
const mostPoints = 4_000
const whileRunningMs = 1_000
const afterFailureMs = 4_000

type Measure = 'loss' | 'gradient_norm' | 'learning_rate' | 'images_per_second'

const charts: readonly { readonly measure: Measure; readonly name: string; readonly isNoisy: boolean }[] = [
  { measure: 'loss', name: 'Loss', isNoisy: true },
  { measure: 'gradient_norm', name: 'Gradient norm', isNoisy: true },
  { measure: 'learning_rate', name: 'Learning rate', isNoisy: false },
  { measure: 'images_per_second', name: 'Images/s', isNoisy: true },
]

export interface ChartsProps {
  readonly id: string
  /** Of the whole job. */
  readonly steps: number
  readonly isRunning: boolean
}

export function Charts({ id, steps, isRunning }: ChartsProps): JSX.Element {
  const { metrics, problem } = useMetrics({ id, steps, isRunning })
  const last = metrics.at(-1)
  const at = metrics.map(({ step }) => step)
  return (
    <section class="charts" aria-label="Metrics" data-steps={last?.step ?? 0}>
      {problem && <Notice problem={problem} />}
      {charts.map(({ measure, name, isNoisy }) => {
        const values = metrics.map((metric) => metric[measure])
        const current = last === undefined ? '–' : figure(last[measure])
        return (
          <figure key={measure} class="panel chart">
            <figcaption class="chart__head">
              <span>{name}</span>
              <strong>{current}</strong>
            </figcaption>
            <Chart
              label={`${name} over the steps, ${current} after step ${last?.step ?? 0}`}
              steps={at}
              values={values}
              trend={isNoisy ? smoothed(values) : undefined}
              until={steps}
            />
          </figure>
        )
      })}
    </section>
  )
}

function useMetrics({ id, steps, isRunning }: ChartsProps): {
  readonly metrics: readonly SchemaFineTuningMetric[]
  readonly problem: Problem | undefined
} {
  const metrics = useSignal<readonly SchemaFineTuningMetric[]>([])
  const problem = useSignal<Problem | undefined>(undefined)
  const running = useSignal(isRunning)
  running.value = isRunning
  useSignalEffect(() => {
    const client = atelier.value
    const goesOn = running.value
    const ended = new AbortController()
    let timer: ReturnType<typeof setTimeout> | undefined
    const every = Math.max(1, Math.ceil(steps / mostPoints))
    const look = async () => {
      try {
        const after = metrics.peek().at(-1)?.step ?? 0
        const filters = { after, every, limit: 2_000 }
        const more: SchemaFineTuningMetric[] = []
        for await (const metric of client.fineTuning.jobs.metrics(id, filters, { signal: ended.signal }))
          more.push(metric)
        if (more.length > 0) metrics.value = [...metrics.peek(), ...more]
        problem.value = undefined
        if (goesOn && !ended.signal.aborted) timer = setTimeout(() => void look(), whileRunningMs)
      } catch (error) {
        if (ended.signal.aborted) return
        problem.value = explain(error)
        if (!isFinal(error)) timer = setTimeout(() => void look(), afterFailureMs)
      }
    }
    void look()
    return () => {
      ended.abort()
      clearTimeout(timer)
    }
  })
  return { metrics: metrics.value, problem: problem.value }
}
