/** What is told of a generation while it is made: its events, and what a caller asks for beforehand. */
import type { PreviewRequest } from '../engine/pool.ts'
import type { Failure } from './generation.ts'

/** What happened. Pictures are counted from 0 within their generation, steps from 1. */
export type EventDetails =
  /** Also after it was taken up and handed back. `position` counts the generations that wait before it. */
  | { readonly type: 'queued'; readonly position: number }
  | { readonly type: 'started' }
  | {
      readonly type: 'step'
      readonly image: number
      readonly step: number
      readonly steps: number
      /** Of this picture. */
      readonly etaSeconds: number
      /** Rows of the batch that the step was taken in. */
      readonly batchRows: number
    }
  | {
      readonly type: 'preview'
      readonly image: number
      readonly step: number
      readonly steps: number
      readonly blobKey: string
      readonly sizeBytes: number
      readonly width: number
      readonly height: number
      readonly format: 'webp'
    }
  | FinalEventDetails

export type FinalEventDetails =
  | { readonly type: 'succeeded' }
  | { readonly type: 'failed'; readonly error: Failure }
  | { readonly type: 'cancelled' }

/** `id` counts the events of one generation: 1, 2, 3, … */
export type GenerationEvent = EventDetails & { readonly id: number; readonly at: Date }

export type PreviewEvent = Extract<GenerationEvent, { type: 'preview' }>

export function isFinal(details: EventDetails): details is FinalEventDetails {
  return details.type === 'succeeded' || details.type === 'failed' || details.type === 'cancelled'
}

/** Which previews a request asks for: one every so many steps, or so many over the whole of each picture. */
export type PreviewWish = { readonly everySteps: number } | { readonly partialImages: number }

/**
 * @returns after which steps a preview is made, ascending; never after the last, since there the picture itself follows.
 *   Partial images lie evenly between the start and the end; with few steps there are fewer than asked for.
 */
export function previewSteps(wish: PreviewWish | undefined, steps: number): number[] {
  if (wish === undefined) return []
  const all = Array.from({ length: steps - 1 }, (_, index) => index + 1)
  if ('everySteps' in wish) return all.filter((step) => step % wish.everySteps === 0)
  const parts = wish.partialImages + 1
  const wanted = new Set(
    Array.from({ length: wish.partialImages }, (_, index) => Math.round((steps * (index + 1)) / parts)),
  )
  return all.filter((step) => wanted.has(step))
}

/** The longer side of a preview at most, in pixels. */
const previewSide = 256

export const previewRequest = (steps: readonly number[]): PreviewRequest | undefined =>
  steps.length > 0 ? { steps, maxSide: previewSide } : undefined
