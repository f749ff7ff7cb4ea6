/** How a model is run within a limit of memory: whether the text encoder stays, when a decode is done in strips, and what the peaks are. */
import { mebibytes } from '../weights/units.ts'
import type { DecodeMemory } from './memory-needs.ts'

export interface MemoryInput {
  /** Private memory of each model's weights, once loaded. */
  readonly weightBytes: {
    readonly textEncoder: number
    readonly transformer: number
    readonly decoder: number
  }
  /** Of the smallest call that must be possible: two rows, a prompt and its negative one. */
  readonly encodeBytes: number
  readonly decode: DecodeMemory
  /** A token's part of what its row takes whatever its tokens is in `bytesPerRowToken`. */
  readonly denoise: { readonly bytesPerRowToken: number; readonly callBytes: number }
  /** Of the largest bucket. */
  readonly maxPixels: number
  readonly maxTokens: number
  /** Of the device's process before anything is loaded, with what it remembers of prompts. */
  readonly baseBytes: number
  /** What the device may take in all; undefined: what the machine has. */
  readonly limitBytes: number | undefined
  /** What the process can have at all. */
  readonly machineBytes: number
}

export interface MemoryPlan {
  readonly fits: boolean
  /** It stays beside the others, or leaves after encoding and comes back for the next prompt. */
  readonly textEncoder: 'stays' | 'leaves'
  /** Weights that are in memory at once, at most. */
  readonly residentBytes: number
  /** Pictures of more pixels are decoded in strips. Infinity: none is; 0: all are. */
  readonly wholeDecodeMaxPixels: number
  /** What a strip may take for itself. */
  readonly stripBytes: number
  /** Pixels of all pictures that are decoded whole together; a larger picture is decoded alone. */
  readonly maxDecodePixels: number
  /** Rows times image tokens of a denoising call that leave room for the rest; at least a guided picture's. */
  readonly maxRowTokens: number
  /** Of one call of the text encoder; at least a guided picture's. */
  readonly maxPrompts: number
  /** What the model takes beside the process's base where calls are as large as the plan lets them be. */
  readonly ownBytes: {
    /** While other models work: weights, and the buffers that stay with them. */
    readonly idle: number
    readonly working: number
  }
  /** Of the device's process, for a guided picture of the largest bucket. */
  readonly peakBytes: { readonly encode: number; readonly denoise: number; readonly decode: number }
  readonly limitBytes: number | undefined
  readonly maxPixels: number
  /** Where it does not fit: the least that it needs, and what would help. */
  readonly shortage?: { readonly neededBytes: number; readonly advice: readonly string[] }
}

/** A guided picture has two rows, of a prompt each. */
const guidedRows = 2
/** Under a limit no plan keeps more for batches: what is left lets another model stay. */
const mostRows = 16
const stripBytes = 256 * 2 ** 20

type Choice = Pick<MemoryPlan, 'textEncoder'> & { readonly decode: 'whole' | 'tiled' }

/** From what costs no time to what costs most: strips cost part of a decode, a text encoder that comes back costs its loading. */
const choices: readonly Choice[] = [
  { textEncoder: 'stays', decode: 'whole' },
  { textEncoder: 'stays', decode: 'tiled' },
  { textEncoder: 'leaves', decode: 'whole' },
  { textEncoder: 'leaves', decode: 'tiled' },
]

/**
 * The first choice whose peaks are within the limit. Without a limit all stays, and a decode is whole unless it would take more
 * than half of the machine's memory by itself.
 */
export function planMemory(input: MemoryInput): MemoryPlan {
  const { limitBytes = Infinity, maxPixels, machineBytes } = input
  const most = Math.floor(machineBytes / 2 / input.decode.wholeBytesPerPixel)
  const possible = most >= maxPixels ? choices : choices.filter(({ decode }) => decode === 'tiled')
  const chosen = possible.find((choice) => highest(peaks(input, choice)) <= limitBytes)
  const least = possible.reduce((a, b) => (highest(peaks(input, b)) < highest(peaks(input, a)) ? b : a))
  const choice = chosen ?? least
  const peakBytes = peaks(input, choice)
  const { prompts, rowTokens, wholePixels } = batches(input, choice, most)
  const whole = input.decode.wholeBytesPerPixel * wholePixels
  const full = peaks(input, choice, {
    prompts,
    rowTokens,
    decodeBytes: choice.decode === 'whole' ? whole : Math.max(whole, tiledBytes(input)),
  })
  return {
    fits: chosen !== undefined,
    textEncoder: choice.textEncoder,
    residentBytes: Math.max(...Object.values(standing(input, choice.textEncoder))) - input.baseBytes,
    wholeDecodeMaxPixels: choice.decode === 'whole' ? Infinity : wholePixels,
    stripBytes,
    maxDecodePixels: wholePixels,
    maxRowTokens: rowTokens,
    maxPrompts: prompts,
    ownBytes: {
      idle: Math.max(full.encode, full.denoise) - input.baseBytes,
      working: highest(full) - input.baseBytes,
    },
    peakBytes,
    limitBytes: input.limitBytes,
    maxPixels,
    ...(chosen === undefined
      ? { shortage: { neededBytes: highest(peakBytes), advice: advice(input, peakBytes) } }
      : {}),
  }
}

/** What is there before a stage's own work begins: what a denoising call took stays with its session. */
function standing({ weightBytes, baseBytes }: MemoryInput, textEncoder: Choice['textEncoder']) {
  const others = weightBytes.transformer + weightBytes.decoder
  return textEncoder === 'stays'
    ? {
        encode: baseBytes + weightBytes.textEncoder + others,
        others: baseBytes + weightBytes.textEncoder + others,
      }
    : { encode: baseBytes + weightBytes.textEncoder, others: baseBytes + others }
}

/** What the largest calls are, and what a decode takes beside what stays. */
interface Calls {
  readonly prompts: number
  readonly rowTokens: number
  readonly decodeBytes: number
}

const guidedPicture = (input: MemoryInput, { decode }: Choice): Calls => ({
  prompts: guidedRows,
  rowTokens: guidedRows * input.maxTokens,
  decodeBytes: decode === 'whole' ? input.decode.wholeBytesPerPixel * input.maxPixels : tiledBytes(input),
})

function peaks(
  input: MemoryInput,
  choice: Choice,
  { prompts, rowTokens, decodeBytes } = guidedPicture(input, choice),
): MemoryPlan['peakBytes'] {
  const before = standing(input, choice.textEncoder)
  const encodeBytes = bytesPerPrompt(input) * prompts
  const call = callOf(input, rowTokens)
  const stays = choice.textEncoder === 'stays'
  const denoise = before.others + (stays ? encodeBytes : 0) + call
  return {
    encode: before.encode + encodeBytes + (stays ? call : 0),
    denoise,
    decode: denoise + decodeBytes,
  }
}

const bytesPerPrompt = ({ encodeBytes }: MemoryInput): number => encodeBytes / guidedRows

const callOf = ({ denoise }: MemoryInput, rowTokenCount: number): number =>
  denoise.bytesPerRowToken * rowTokenCount + denoise.callBytes

const tiledBytes = ({ decode, maxPixels }: MemoryInput): number =>
  decode.tiledBytesPerPixel * maxPixels + stripBytes

const highest = (peakBytes: MemoryPlan['peakBytes']): number => Math.max(...Object.values(peakBytes))

/**
 * How large calls may be, each by what those before it leave of the limit: prompts, for a quarter where their buffers stay, then
 * rows, and then pictures that are decoded whole.
 */
function batches(
  input: MemoryInput,
  choice: Choice,
  most: number,
): { readonly prompts: number; readonly rowTokens: number; readonly wholePixels: number } {
  const { limitBytes, maxPixels, maxTokens, decode } = input
  if (limitBytes === undefined) return { prompts: Infinity, rowTokens: Infinity, wholePixels: most }
  const fitting = (sizeBytes: number, each: number) => Math.max(0, Math.floor(sizeBytes / each))
  const least = guidedPicture(input, choice)
  const peakBytes = peaks(input, choice)
  const forPrompts =
    choice.textEncoder === 'stays' ? (limitBytes - highest(peakBytes)) / 4 : limitBytes - peakBytes.encode
  const prompts = Math.min(mostRows, least.prompts + fitting(forPrompts, bytesPerPrompt(input)))
  const forRows = limitBytes - peaks(input, choice, { ...least, prompts }).decode
  const rowTokens = Math.min(
    mostRows * maxTokens,
    least.rowTokens + fitting(forRows, input.denoise.bytesPerRowToken),
  )
  if (choice.decode === 'whole') return { prompts, rowTokens, wholePixels: maxPixels }
  const forDecode = limitBytes - peaks(input, choice, { ...least, prompts, rowTokens }).denoise
  return { prompts, rowTokens, wholePixels: Math.min(most, fitting(forDecode, decode.wholeBytesPerPixel)) }
}

/** Only what would make a difference: weights that are a notable part of a peak. */
function advice(
  { weightBytes, limitBytes = Infinity }: MemoryInput,
  { encode, denoise, decode }: MemoryPlan['peakBytes'],
): readonly string[] {
  const matters = (bytes: number, peak: number): boolean => peak > limitBytes && bytes > peak / 10
  return [
    ...(matters(weightBytes.textEncoder, encode)
      ? ['a text encoder of 4 bits: atelier model quantize DIR OUT --text-encoder int4']
      : []),
    ...(matters(weightBytes.transformer, denoise)
      ? ['a transformer of 8 bits: atelier model quantize DIR OUT --transformer int8']
      : []),
    ...(decode > limitBytes && denoise <= limitBytes ? ['a checkpoint of a smaller base size'] : []),
    `a higher ATELIER_MEMORY_LIMIT_MIB`,
  ]
}

/** A few lines for people, without a full stop at their ends. */
export function describePlan(plan: MemoryPlan): readonly string[] {
  const { textEncoder, wholeDecodeMaxPixels, peakBytes, limitBytes, maxPixels, shortage } = plan
  const limit = limitBytes === undefined ? 'no limit' : `a limit of ${mebibytes(limitBytes)}`
  const decode =
    wholeDecodeMaxPixels >= maxPixels
      ? 'pictures are decoded whole'
      : wholeDecodeMaxPixels === 0
        ? 'pictures are decoded in strips'
        : `pictures of more than ${Math.floor(Math.sqrt(wholeDecodeMaxPixels))}² pixels are decoded in strips`
  const encoder =
    textEncoder === 'stays'
      ? 'the text encoder stays in memory'
      : 'the text encoder leaves the memory after encoding'
  return [
    `memory with ${limit}: ${encoder}, ${decode}`,
    `expected peaks for a guided picture of ${Math.round(Math.sqrt(maxPixels))}² pixels: encode ${mebibytes(peakBytes.encode)}, denoise ${mebibytes(peakBytes.denoise)}, decode ${mebibytes(peakBytes.decode)}`,
    ...(shortage
      ? [
          `this does not fit: it needs at least ${mebibytes(shortage.neededBytes)}; what would help: ${shortage.advice.join('; ')}`,
        ]
      : []),
  ]
}
