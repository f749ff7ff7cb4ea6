/** `atelier status`: asks the running server of this data folder what it serves and how much waits. */
import type { Config } from '../config.ts'
import type { GenerationService } from '../generation/service.ts'
import { callControl } from '../storage/control.ts'

interface Status {
  readonly pid: number
  readonly address: string
  readonly ready: boolean
  readonly models: readonly { readonly name: string; readonly version: string }[]
  readonly queued: number
  readonly running: number
  readonly devices: readonly {
    readonly name: string
    readonly state: string
    /** Since its process was started. */
    readonly servingSeconds: number
    readonly trainingSeconds: number
    /** The fine-tuning job that it is home to. */
    readonly job: string | null
  }[]
}

export async function statusOf(address: string, generation: GenerationService): Promise<Status> {
  const models = generation.models.map(({ name, version }) => ({ name, version }))
  const { devices } = await generation.metrics()
  return {
    pid: process.pid,
    address,
    ready: generation.ready,
    models,
    ...(await generation.count()),
    devices: devices.map(({ name, state, load: { servingMs, training } }) => ({
      name,
      state,
      servingSeconds: servingMs / 1000,
      trainingSeconds: training.deviceMs / 1000,
      job: training.job ?? null,
    })),
  }
}

/** Prints the server's status as JSON. @throws when no server runs on the data folder */
export async function status({ dataDir }: Config): Promise<void> {
  const answer = await callControl(dataDir, 'status', {})
  if (answer.state === 'no_server') throw new Error(`no server runs on the data folder ${dataDir}`)
  console.log(JSON.stringify(answer.result, null, 2))
}
