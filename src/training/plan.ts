/** plan.json: how many rows the micro-batches of each stage have. Measured once; a job that is taken up again goes by it. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { writeDurably } from './durable-json.ts'
import { TrainingError } from './errors.ts'

interface Plan {
  readonly version: 1
  /** Stage → rows. */
  readonly microBatches: Readonly<Record<string, number>>
}

const planFile = (jobFolder: string): string => join(jobFolder, 'plan.json')

/** @returns undefined when the stage has not begun */
export async function readMicroBatch(jobFolder: string, stage: number): Promise<number | undefined> {
  return (await readPlan(jobFolder)).microBatches[stage]
}

export async function writeMicroBatch(jobFolder: string, stage: number, rows: number): Promise<void> {
  const plan = await readPlan(jobFolder)
  await writeDurably(planFile(jobFolder), { ...plan, microBatches: { ...plan.microBatches, [stage]: rows } })
}

async function readPlan(jobFolder: string): Promise<Plan> {
  const file = planFile(jobFolder)
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  if (text === undefined) return { version: 1, microBatches: {} }
  const plan = JSON.parse(text) as Plan
  if (plan.version === 1) return plan
  throw new TrainingError(`${file}: expected version 1, got ${JSON.stringify(plan.version)}`)
}
