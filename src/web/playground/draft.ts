/** What is being asked for: everything that the form holds, kept in this browser. */
import { effect, signal } from '@preact/signals'
import type { SchemaCreateGenerationRequest, SchemaImageParameters, SchemaModel } from '../../sdk/index.ts'
import { bucketsOf, enlarge, readSize, scaleFor, squareOf, writeSize, type Size } from './sizes.ts'

export const formats = ['png', 'jpeg', 'webp'] as const
export const schedulers = ['dpm++_2m', 'dpm++_2m_karras', 'ddim', 'euler', 'lcm'] as const

export type Format = (typeof formats)[number]
export type Scheduler = (typeof schedulers)[number]

export interface Draft {
  readonly prompt: string
  readonly negativePrompt: string
  /** Empty for the service's first. */
  readonly model: string
  /** `"WIDTHxHEIGHT"`; one that the model does not have means its square. */
  readonly bucket: string
  /** Undefined for what suits the model. */
  readonly scale: number | undefined
  readonly count: number
  readonly steps: number
  readonly guidanceScale: number
  /** Undefined for the model's own. */
  readonly scheduler: Scheduler | undefined
  /** Undefined for one that the service picks, another each time. */
  readonly seed: number | undefined
  readonly format: Format
}

export const untouched: Draft = {
  prompt: '',
  negativePrompt: '',
  model: '',
  bucket: '',
  scale: undefined,
  count: 1,
  steps: 20,
  guidanceScale: 4.5,
  scheduler: undefined,
  seed: undefined,
  format: 'png',
}

/** How often a picture shows itself before it is done. */
const previews = 8

/** The bucket and the scale that a draft means with a model. */
export function sizeOf({ bucket, scale }: Draft, model: SchemaModel): { bucket: Size; scale: number } {
  const found = bucketsOf(model).find((size) => writeSize(size) === bucket) ?? squareOf(model)
  return { bucket: found, scale: scaleFor(model, found, scale) }
}

export function toRequest(draft: Draft, model: SchemaModel): SchemaCreateGenerationRequest {
  const { bucket, scale } = sizeOf(draft, model)
  return {
    prompt: draft.prompt,
    model: model.id,
    size: writeSize(enlarge(bucket, scale)),
    n: draft.count,
    steps: draft.steps,
    guidance_scale: draft.guidanceScale,
    output_format: draft.format,
    preview_every: Math.max(1, Math.round(draft.steps / previews)),
    ...(draft.negativePrompt !== '' && { negative_prompt: draft.negativePrompt }),
    ...(draft.scheduler !== undefined && { scheduler: draft.scheduler }),
    ...(draft.seed !== undefined && { seed: draft.seed }),
  }
}

/** The draft that would make a generation again. */
export function draftOf(parameters: SchemaImageParameters, generatedSize: string): Draft {
  const [asked, made] = [readSize(parameters.size), readSize(generatedSize)]
  return {
    prompt: parameters.prompt,
    negativePrompt: parameters.negative_prompt,
    model: parameters.model,
    bucket: generatedSize,
    scale: asked.width / made.width,
    count: parameters.n,
    steps: parameters.steps,
    guidanceScale: parameters.guidance_scale,
    scheduler: parameters.scheduler,
    seed: parameters.seed,
    format: parameters.output_format,
  }
}

/** As many bits as a number that people may have to type is worth. */
export const drawSeed = (): number => crypto.getRandomValues(new Uint32Array(1))[0] ?? 0

const key = 'atelier.draft'

/** @returns what was kept, where it is what this page would keep; another version's field is left out */
function restore(): Draft {
  try {
    const kept = JSON.parse(globalThis.localStorage.getItem(key) ?? '{}') as Record<string, unknown>
    const fits = (name: string) => {
      const example = untouched[name as keyof Draft] ?? (name === 'scheduler' ? '' : 0)
      return typeof kept[name] === typeof example
    }
    return {
      ...untouched,
      ...Object.fromEntries(Object.entries(kept).filter(([name]) => name in untouched && fits(name))),
    }
  } catch {
    return untouched
  }
}

export const draft = signal<Draft>(untouched)

export function change(changes: Partial<Draft>): void {
  draft.value = { ...draft.value, ...changes }
}

/** Called once, by the page. */
export function keepDraft(): void {
  draft.value = restore()
  effect(() => localStorage.setItem(key, JSON.stringify(draft.value)))
}
