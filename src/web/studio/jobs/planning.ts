/** What the service says of a draft while it is written: the dry run's plan, and prompts that its dataset suggests. */
import {
  batch,
  useComputed,
  useSignal,
  useSignalEffect,
  type ReadonlySignal,
  type Signal,
} from '@preact/signals'
import { AtelierError, type SchemaFineTuningPlan } from '../../../sdk/index.ts'
import { explain, type Problem } from '../../shared/problem.ts'
import { atelier } from '../../shared/session.ts'
import { promptDraft, requestOf, type JobDraft } from './draft.ts'

/** While somebody types, nothing is asked. */
const calmMs = 450
const suggestions = 3

export interface Planning {
  /** The last one that there was. */
  readonly plan: ReadonlySignal<SchemaFineTuningPlan | undefined>
  /** Why there is none of the draft as it stands, and which field is at fault. */
  readonly refused: ReadonlySignal<{ readonly problem: Problem; readonly param: string } | undefined>
  readonly isPlanning: ReadonlySignal<boolean>
  readonly planAgain: () => void
}

export function usePlan(draft: ReadonlySignal<JobDraft>): Planning {
  const plan = useSignal<SchemaFineTuningPlan | undefined>(undefined)
  const refused = useSignal<{ readonly problem: Problem; readonly param: string } | undefined>(undefined)
  const isPlanning = useSignal(true)
  const asked = useSignal(0)
  useSignalEffect(() => {
    void asked.value
    const request = requestOf(draft.value)
    const client = atelier.value
    const ended = new AbortController()
    const make = async () => {
      try {
        const made = await client.fineTuning.jobs.plan(request, { signal: ended.signal })
        batch(() => {
          plan.value = made
          refused.value = undefined
          isPlanning.value = false
        })
      } catch (error) {
        if (ended.signal.aborted) return
        const param = error instanceof AtelierError ? (error.param ?? '') : ''
        batch(() => {
          refused.value = { problem: explain(error), param }
          isPlanning.value = false
        })
      }
    }
    isPlanning.value = true
    const timer = setTimeout(() => void make(), calmMs)
    return () => {
      clearTimeout(timer)
      ended.abort()
    }
  })
  return { plan, refused, isPlanning, planAgain: () => (asked.value += 1) }
}

/** The first captions of the chosen dataset, where nobody has written prompts. */
export function useSuggestedPrompts(draft: Signal<JobDraft>): void {
  const dataset = useComputed(() => draft.value.dataset)
  useSignalEffect(() => {
    const id = dataset.value
    const client = atelier.value
    const ended = new AbortController()
    const suggest = async () => {
      const page = await client.datasets.itemPage(id, { limit: suggestions }, { signal: ended.signal })
      const captions = page.data.flatMap(({ captions: [first] }) => first ?? [])
      const written = draft.peek()
      if (captions.length === 0 || written.prompts.length > 0) return
      draft.value = {
        ...written,
        prompts: captions.map((caption, index) => promptDraft(caption, index + 1)),
      }
    }
    // Without a suggestion one writes them oneself.
    suggest().catch(() => undefined)
    return () => ended.abort()
  })
}
