/** The description beside the reference tensors: which prompts and runs they are of. */
import { readFile } from 'node:fs/promises'

export interface GoldenRun {
  readonly prompt: string
  readonly negative_prompt: string
  readonly requested_height: number
  readonly requested_width: number
  readonly bucket_height: number
  readonly bucket_width: number
  readonly steps: number
  readonly guidance_scale: number
}

export interface GoldenDescription {
  readonly prompts: readonly string[]
  readonly runs: readonly GoldenRun[]
}

export async function readDescription(file: string): Promise<GoldenDescription> {
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    const expected = 'expected a folder with checkpoint/, golden.safetensors and golden.json'
    throw new Error(`${expected}, and ${file} cannot be read`, { cause: error })
  })
  const json: unknown = JSON.parse(text)
  const { prompts, runs } = json as Partial<GoldenDescription>
  if (!Array.isArray(prompts) || !Array.isArray(runs))
    throw new Error(`${file}: expected the lists "prompts" and "runs"`)
  return { prompts, runs }
}
