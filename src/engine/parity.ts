/** A checkpoint against reference tensors that other people's code computed: the pipeline, its training, a start from a DiT. */
import { access } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { openCheckpoint, openComponent } from '../weights/checkpoint.ts'
import { writeSafetensors } from '../weights/safetensors-writer.ts'
import { openDevice } from './open-device.ts'
import { servingBounds } from './parity/bounds.ts'
import { compareFromDit } from './parity/from-dit.ts'
import { readDescription } from './parity/golden.ts'
import { compareGradientFile } from './parity/gradients.ts'
import { References, type Comparison } from './parity/references.ts'
import { compareServing } from './parity/serving.ts'
import { compareTraining } from './parity/training.ts'
import type { DeviceOptions } from './protocol.ts'
import type { SessionOptions } from './session.ts'

export type { Comparison } from './parity/references.ts'

export interface ParityReport {
  readonly comparisons: readonly Comparison[]
  /** References that nothing was held against. */
  readonly uncompared: readonly string[]
}

type ParityDevice = Omit<DeviceOptions, 'models'>

/**
 * @param folder holds checkpoint/, golden.safetensors and golden.json, and what there is to be of training.safetensors,
 *   gradients.safetensors and dit/
 * @param options `outFile`: where to write every computed tensor, under the references' names
 * @throws when the folder is not of that form
 */
export async function runParity(
  folder: string,
  device: ParityDevice,
  options: { readonly outFile?: string | undefined; readonly onNote: (message: string) => void },
): Promise<ParityReport> {
  const files = [
    await serving(folder, device, options.onNote),
    ...(await training(folder, sessionOptions(device))),
  ]
  if (options.outFile !== undefined) {
    await writeSafetensors(
      options.outFile,
      files.flatMap(({ computed }) => [...computed]),
    )
  }
  return {
    comparisons: files.flatMap(({ comparisons }) => comparisons),
    uncompared: files.flatMap((file) => file.uncompared()),
  }
}

async function serving(
  folder: string,
  device: ParityDevice,
  onNote: (message: string) => void,
): Promise<References> {
  const models = [{ name: basename(folder), folder: join(folder, 'checkpoint') }]
  const description = await readDescription(join(folder, 'golden.json'))
  const references = await References.open(join(folder, 'golden.safetensors'))
  const { pipelines } = await openDevice({ ...device, models }, onNote)
  const pipeline = pipelines[0]!
  const bounds = servingBounds(device.device.provider, device.precision ?? 'float32')
  try {
    await compareServing(references, pipeline, bounds, description)
  } finally {
    await pipeline.model.unload()
  }
  return references
}

/** In float32 whatever the device serves in, as the references are. */
async function training(folder: string, options: SessionOptions): Promise<readonly References[]> {
  const checkpoint = await openCheckpoint(join(folder, 'checkpoint'))
  const compared: References[] = []
  const compareIfThere = async (
    file: string,
    compare: (references: References) => Promise<void>,
  ): Promise<void> => {
    if (!(await exists(join(folder, file)))) return
    const references = await References.open(join(folder, file))
    await compare(references)
    compared.push(references)
  }
  await compareIfThere('training.safetensors', (run) => compareTraining(run, checkpoint, options))
  await compareIfThere('gradients.safetensors', (run) => compareGradientFile(run, checkpoint, options))
  await compareIfThere(join('dit', 'golden.safetensors'), async (run) => {
    const dit = await openComponent(join(folder, 'dit', 'transformer'))
    await compareFromDit(run, { dit, transformer: checkpoint.transformer }, options)
  })
  return compared
}

const sessionOptions = ({ device: { provider, index, cores } }: ParityDevice): SessionOptions => ({
  provider,
  deviceIndex: index,
  threads: cores ? cores[1] - cores[0] + 1 : 0,
})

const exists = (file: string): Promise<boolean> =>
  access(file).then(
    () => true,
    () => false,
  )
