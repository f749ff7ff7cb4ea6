/** How much a checkpoint's models hold, and how much of it a job trains: from configurations and headers, no weights are read. */
import { readPixArtConfig } from '../models/pixart.ts'
import { quantisationOf } from '../models/weight-storage.ts'
import { readVaeConfig, vaeDownsampling } from '../models/vae.ts'
import { openCheckpoint, type Component } from '../weights/checkpoint.ts'

export interface ComponentFootprint {
  readonly parameters: number
  /** As stored. */
  readonly sizeBytes: number
}

export interface ModelFootprint {
  /** Of the whole checkpoint. */
  readonly version: string
  readonly transformer: ComponentFootprint & {
    readonly layers: number
    /** heads · headWidth */
    readonly width: number
    readonly heads: number
    /** Of its matrices, by the module's name: (out, in). */
    readonly matrices: ReadonlyMap<string, readonly [number, number]>
  }
  readonly textEncoder: ComponentFootprint
  readonly vae: ComponentFootprint & {
    /** Of its first level. */
    readonly channels: number
  }
  /** Of the text encoder's states. */
  readonly captionWidth: number
  /** Pixels along one side of a latent, and of a token. */
  readonly pixelsPerLatent: number
  readonly pixelsPerToken: number
  /** Weights of few bits can be served and not trained. */
  readonly quantised: readonly string[]
}

/** @throws {WeightsError | ModelConfigError} */
export async function readFootprint(folder: string): Promise<ModelFootprint> {
  const { transformer, textEncoder, vae, version } = await openCheckpoint(folder)
  const quantised = [transformer, textEncoder].filter(
    ({ name, config }) => quantisationOf(name, config) !== undefined,
  )
  const { layers, heads, headWidth, patchSize, captionWidth } = readPixArtConfig(transformer.config)
  const vaeConfig = readVaeConfig(vae.config)
  const pixelsPerLatent = vaeDownsampling(vaeConfig)
  return {
    version,
    transformer: {
      ...footprintOf(transformer),
      layers,
      heads,
      width: heads * headWidth,
      matrices: matricesOf(transformer),
    },
    textEncoder: footprintOf(textEncoder),
    vae: { ...footprintOf(vae), channels: vaeConfig.channels[0] ?? 0 },
    captionWidth,
    pixelsPerLatent,
    pixelsPerToken: pixelsPerLatent * patchSize,
    quantised: quantised.map(({ name }) => name),
  }
}

function footprintOf({ tensors }: Component): ComponentFootprint {
  const all = [...tensors.values()]
  return {
    parameters: all.reduce((sum, { shape }) => sum + elements(shape), 0),
    sizeBytes: all.reduce((sum, { length }) => sum + length, 0),
  }
}

const elements = (shape: readonly number[]): number => shape.reduce((product, side) => product * side, 1)

function matricesOf({ tensors }: Component): ReadonlyMap<string, readonly [number, number]> {
  const matrices = [...tensors].flatMap(([key, { shape }]) => {
    const [rows, columns] = shape
    return key.endsWith('.weight') && shape.length === 2 && rows !== undefined && columns !== undefined
      ? [[key.slice(0, -'.weight'.length), [rows, columns]] as const]
      : []
  })
  return new Map(matrices)
}

/**
 * @param targets ends of module names
 * @returns the modules that a LoRA adapts, and what its two matrices for each of them hold together
 */
export function loraFootprint(
  { transformer }: Pick<ModelFootprint, 'transformer'>,
  { rank, targets }: { readonly rank: number; readonly targets: readonly string[] },
): { readonly modules: readonly string[]; readonly parameters: number } {
  const adapted = [...transformer.matrices].filter(([name]) =>
    targets.some((target) => name === target || name.endsWith(`.${target}`)),
  )
  return {
    modules: adapted.map(([name]) => name),
    parameters: adapted.reduce((sum, [, [rows, columns]]) => sum + rank * (rows + columns), 0),
  }
}
