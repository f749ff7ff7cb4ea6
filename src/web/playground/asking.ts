/** Asks for the pictures of the draft. What was asked for once is not made twice, however often a broken connection is tried again. */
import { signal } from '@preact/signals'
import { createAsking } from '../shared/idempotency.ts'
import { explain, type Problem } from '../shared/problem.ts'
import { atelier } from '../shared/session.ts'
import { draft, toRequest } from './draft.ts'
import { learn, query, select } from './history.ts'
import { model } from './models.ts'

export const isAsking = signal(false)
export const askingProblem = signal<Problem | undefined>(undefined)

const asking = createAsking()

export async function ask(): Promise<void> {
  const { value: chosen } = model
  if (isAsking.value || !chosen || draft.value.prompt.trim() === '') return
  const request = toRequest(draft.value, chosen)
  isAsking.value = true
  askingProblem.value = undefined
  try {
    const client = atelier.value
    const generation = await asking.once(JSON.stringify(request), (idempotencyKey) =>
      client.generations.create(request, { idempotencyKey }),
    )
    if (client !== atelier.value) return
    query.value = ''
    learn([generation])
    select(generation.id)
  } catch (error) {
    askingProblem.value = explain(error)
  } finally {
    isAsking.value = false
  }
}
