/** What the service can make pictures with. */
import { computed, signal } from '@preact/signals'
import type { SchemaModel } from '../../sdk/index.ts'
import { explain, type Problem } from '../shared/problem.ts'
import { atelier } from '../shared/session.ts'
import { draft } from './draft.ts'

export const models = signal<readonly SchemaModel[]>([])
export const modelsProblem = signal<Problem | undefined>(undefined)

/** The one that the draft means: by its name, else the service's first. */
export const model = computed(
  () => models.value.find(({ id }) => id === draft.value.model) ?? models.value[0],
)

export async function loadModels(): Promise<void> {
  const client = atelier.value
  try {
    const { data } = await client.models.list()
    if (client !== atelier.value) return
    models.value = data
    modelsProblem.value = undefined
  } catch (error) {
    if (client === atelier.value) modelsProblem.value = explain(error)
  }
}
