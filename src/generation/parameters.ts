/** What a generation is asked for, after validation and with every default filled in. */
import type { SchedulerName } from '../diffusion/solvers.ts'

export const imageFormats = ['png', 'jpeg', 'webp'] as const
export type ImageFormat = (typeof imageFormats)[number]

export interface GenerationParameters {
  readonly model: string
  readonly prompt: string
  readonly negativePrompt: string
  readonly width: number
  readonly height: number
  /** How many pictures: 1 … 10. Picture i uses noise slice `seedIndex + i`. */
  readonly count: number
  readonly seed: number
  readonly seedIndex: number
  readonly steps: number
  readonly guidanceScale: number
  readonly scheduler: SchedulerName
  readonly cleanCaption: boolean
  readonly format: ImageFormat
  /** 0 … 100, quality of JPEG and WebP. */
  readonly compression: number
}
