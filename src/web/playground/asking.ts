/** Asks for the pictures of the draft. What was asked for once is not made twice, however often a broken connection is tried again. */
import { signal } from '@preact/signals'
import { AtelierError } from '../../sdk/index.ts'
import { explain, type Problem } from '../shared/problem.ts'
import { atelier } from '../shared/session.ts'
import { draft, toRequest } from './draft.ts'
import { learn, query, select } from './history.ts'
import { model } from './models.ts'

export const isAsking = signal(false)
export const askingProblem = signal<Problem | undefined>(undefined)

/** Of the last request, while nobody knows what became of it. */
let unanswered: { readonly text: string; readonly key: string } | undefined

export async function ask(): Promise<void> {
  const { value: chosen } = model
  if (isAsking.value || !chosen || draft.value.prompt.trim() === '') return
  const request = toRequest(draft.value, chosen)
  const text = JSON.stringify(request)
  const idempotencyKey = unanswered?.text === text ? unanswered.key : drawKey()
  isAsking.value = true
  askingProblem.value = undefined
  unanswered = undefined
  try {
    const generation = await atelier.value.generations.create(request, { idempotencyKey })
    query.value = ''
    learn([generation])
    select(generation.id)
  } catch (error) {
    const isUnknown = error instanceof AtelierError && error.status === undefined
    if (isUnknown) unanswered = { text, key: idempotencyKey }
    askingProblem.value = explain(error)
  } finally {
    isAsking.value = false
  }
}

/** `crypto.randomUUID` is there on secure origins alone, and a service in a local network has none. */
const drawKey = (): string =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join(
    '',
  )
