/**
 * A training step of the transformer block by block, which keeps of the forward pass only what goes from block to block and
 * computes the rest of each block again when its turn comes in the backward pass (Chen et al. 2016, arXiv 1604.06174). One graph
 * for the blocks' forward passes and one for their backward passes, with the weights as inputs, serve all of them.
 *
 * Shapes: R rows, N image tokens, T text tokens, D width, P numbers a token.
 */
import { gradients, type Seed } from '../graph/gradient/gradients.ts'
import { graph, input, type Graph, type Input, type Value } from '../graph/ir.ts'
import { pixartBlocks, type PixArtConfig } from '../models/pixart.ts'
import type { DiffusionProcess } from './diffusion-process.ts'
import { gradientName, seedOf, type GradientsWanted, type Trainable } from './gradient-graphs.ts'
import { noiseLoss, type NoiseLossOptions } from './losses.ts'

export interface BlockwiseGraphs {
  readonly layers: number
  readonly entrance: Graph
  readonly block: Graph
  readonly exit: Graph
  /** The last part with the loss, forwards and backwards. */
  readonly exitStep: Graph
  readonly blockStep: Graph
  readonly entranceStep: Graph
}

/** What goes between the parts: the gradients by these values pass back. */
const carried = ['hidden', 'modulation', 'embedded', 'caption'] as const
type Carried = (typeof carried)[number]

/** How the transformer's three parts are changed before they are differentiated. */
export type AdaptPart = (part: Graph) => Graph

/** The parts' parameters are named as within a block, for `trainable` too. */
export function blockwiseGraphs(
  config: PixArtConfig,
  process: DiffusionProcess,
  {
    trainable = () => true,
    scaling = 'unscaled',
    adapt = (part) => part,
    ...options
  }: NoiseLossOptions & GradientsWanted & { readonly adapt?: AdaptPart },
): BlockwiseGraphs {
  const parts = pixartBlocks(config, 'train')
  const [entrance, block, exit] = [adapt(parts.entrance), adapt(parts.block), adapt(parts.exit)]
  const tokens = entrance.inputs.find(({ name }) => name === 'tokens')
  const timestep = entrance.inputs.find(({ name }) => name === 'timestep')
  const { output } = exit.outputs
  if (!tokens || !timestep || !output) throw new TypeError('the parts of the transformer are not as expected')
  const [clean, noise] = [input('clean', 'float32', tokens.shape), input('noise', 'float32', tokens.shape)]
  const { loss, mse, bound, detached } = noiseLoss(
    { output, clean, noise, noised: tokens, timestep },
    process,
    options,
  )
  const { seed, given } = seedOf(loss, scaling)
  const lossInputs = [...exit.inputs, tokens, clean, noise, timestep, ...given]
  return {
    layers: config.layers,
    entrance,
    block,
    exit,
    exitStep: graph('pixart_exit_step', lossInputs, {
      loss,
      mse,
      ...(bound ? { bound } : {}),
      ...backwards(exit, [seed], trainable, detached),
    }),
    blockStep: stepOf(block, trainable),
    entranceStep: stepOf(entrance, trainable),
  }
}

/** A part backwards: its inputs, and for each output its cotangent → gradients of parameters and of what is carried in. */
function stepOf(part: Graph, trainable: Trainable): Graph {
  const cotangents: Input[] = []
  const seeds = Object.entries(part.outputs).map(([name, value]): Seed => {
    const cotangent = input(cotangentName(name), value.dtype, value.shape)
    cotangents.push(cotangent)
    return { value, cotangent }
  })
  return graph(`${part.name}_step`, [...part.inputs, ...cotangents], backwards(part, seeds, trainable))
}

const cotangentName = (name: string): string => `cotangent.${name}`

function backwards(
  part: Graph,
  seeds: readonly Seed[],
  trainable: Trainable,
  detached: ReadonlySet<Value> = new Set(),
): Record<string, Value> {
  const wrt = [
    ...part.inputs.filter(({ name }) => isCarried(name)),
    ...part.parameters.filter(({ name }) => trainable(name)),
  ]
  const results = gradients(seeds, wrt, { detached })
  return Object.fromEntries(wrt.map(({ name }, i) => [gradientName(name), results[i]!]))
}

const isCarried = (name: string): name is Carried => carried.some((one) => one === name)

/** A tensor as whoever runs the graphs has it. */
interface Numbers {
  readonly data: { readonly length: number; [index: number]: number }
}

/**
 * Runs a graph whose parameters are given as inputs.
 * @param prefix what the checkpoint's keys of its parameters begin with
 */
export type RunPart<T> = (
  part: Graph,
  feeds: Readonly<Record<string, T>>,
  prefix: string,
) => Promise<Readonly<Record<string, T>>>

export interface BlockwiseStep<T> {
  /** `loss`, `mse` and `bound`, as `transformerStep` has them. */
  readonly terms: Readonly<Record<string, T>>
  /** By the checkpoint's keys. */
  readonly gradients: ReadonlyMap<string, T>
}

/**
 * One step: the same loss and gradients as those of `transformerStep`.
 * @param feeds the inputs of `transformerStep`
 */
export async function blockwiseStep<T extends Numbers>(
  graphs: BlockwiseGraphs,
  feeds: Readonly<Record<string, T>>,
  run: RunPart<T>,
): Promise<BlockwiseStep<T>> {
  const parts = blockwiseParts(graphs, feeds, run)
  for (;;) {
    const { done, value } = await parts.next()
    if (done) return value
  }
}

/** The same with a stop after every part. */
export async function* blockwiseParts<T extends Numbers>(
  { layers, entrance, block, exit, exitStep, blockStep, entranceStep }: BlockwiseGraphs,
  feeds: Readonly<Record<string, T>>,
  run: RunPart<T>,
): AsyncGenerator<void, BlockwiseStep<T>, void> {
  const found = new Map<string, T>()
  const keep = (outputs: Readonly<Record<string, T>>, { parameters }: Graph, prefix: string): void => {
    for (const { name } of parameters) {
      const gradient = outputs[gradientName(name)]
      if (gradient !== undefined) found.set(prefix + name, gradient)
    }
  }
  const prefixOf = (layer: number): string => `transformer_blocks.${layer}.`

  const { hidden: first, ...conditions } = await run(entrance, of(entrance, feeds), '')
  yield
  const entering = [first!]
  for (let layer = 0; layer < layers; layer++) {
    const given = of(block, { ...feeds, ...conditions, hidden: entering[layer]! })
    entering.push((await run(block, given, prefixOf(layer)))['result']!)
    yield
  }

  const last = await run(exitStep, of(exitStep, { ...feeds, ...conditions, hidden: entering.pop()! }), '')
  yield
  keep(last, exit, '')
  const cotangents: Record<string, T> = {}
  const carry = (outputs: Readonly<Record<string, T>>): void => {
    for (const name of carried) {
      const cotangent = outputs[gradientName(name)]
      if (cotangent === undefined) continue
      const before = cotangents[cotangentName(name)]
      // What a block leaves is all that came to it; conditions gather from all blocks.
      if (before === undefined || name === 'hidden') cotangents[cotangentName(name)] = cotangent
      else addTo(before, cotangent)
    }
  }
  carry(last)
  for (let layer = layers - 1; layer >= 0; layer--) {
    const ofResult = cotangents[cotangentName('hidden')]!
    const given = { ...feeds, ...conditions, hidden: entering.pop()!, [cotangentName('result')]: ofResult }
    const outputs = await run(blockStep, of(blockStep, given), prefixOf(layer))
    keep(outputs, block, prefixOf(layer))
    carry(outputs)
    yield
  }
  if (Object.keys(entranceStep.outputs).length > 0)
    keep(await run(entranceStep, of(entranceStep, { ...feeds, ...cotangents }), ''), entrance, '')
  const terms = Object.fromEntries(
    ['loss', 'mse', 'bound'].flatMap((name) => (last[name] ? [[name, last[name]]] : [])),
  )
  return { terms, gradients: found }
}

/** Those that the graph has as inputs. */
const of = <T>({ inputs }: Graph, feeds: Readonly<Record<string, T>>): Record<string, T> =>
  Object.fromEntries(inputs.map(({ name }) => [name, feeds[name]!]))

function addTo({ data: sum }: Numbers, { data }: Numbers): void {
  for (let i = 0; i < sum.length; i++) sum[i] = sum[i]! + data[i]!
}
