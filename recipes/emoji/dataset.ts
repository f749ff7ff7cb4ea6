/** Data set folders as `src/datasets` reads them: pictures and a captions.jsonl, each picture a pure function of seed and number. */
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import sharp from 'sharp'
import type { Picture } from '../../src/evaluation/picture.ts'
import { denseCaptions, plainCaption } from './captions.ts'
import { drawComposition, type Composition } from './composition.ts'
import { Draws } from './draws.ts'
import { paint } from './picture.ts'
import { aestheticScore, recipeFor, type Kind } from './recipes.ts'
import type { Renders } from './render.ts'
import { className } from './vocabulary.ts'

export interface DatasetOptions {
  readonly out: string
  readonly count: number
  readonly seed: number
  readonly kind: Kind
  readonly captions: 'dense' | 'plain'
  /** Side of the square bucket in pixels. */
  readonly size: number
}

/** A picture of a data set before it is painted: which one, and what is said of it. */
export interface Planned {
  readonly file: string
  readonly composition: Composition
  readonly captions: readonly string[]
  /** Its class; one of its own for things of several. */
  readonly label: string
  readonly aestheticScore: number
}

/** @returns the same for the same options, whatever comes before and after it */
export function planPicture(
  { seed, kind, captions, size }: Pick<DatasetOptions, 'seed' | 'kind' | 'captions' | 'size'>,
  index: number,
  renders: Renders,
): Planned {
  const appearanceOf = renders.appearance.bind(renders)
  const composition = drawComposition(
    new Draws(seed, kind, index, 'composition'),
    recipeFor(kind, size, renders.items),
    appearanceOf,
  )
  const classes = new Set(composition.objects.map(({ item }) => className(item, composition.style)))
  return {
    file: `${String(Math.floor(index / 1000)).padStart(3, '0')}/${String(index).padStart(6, '0')}.png`,
    composition,
    captions:
      captions === 'plain'
        ? [plainCaption(composition)]
        : denseCaptions(composition, new Draws(seed, kind, index, 'captions'), appearanceOf),
    label: classes.size === 1 ? [...classes][0]! : `${composition.style} of several kinds`,
    aestheticScore: aestheticScore(composition, appearanceOf),
  }
}

/** Pictures that are painted and compressed at a time: compressing goes on in other threads meanwhile. */
const atATime = 32

export async function makeDataset(options: DatasetOptions, renders: Renders): Promise<void> {
  const lines: string[] = []
  for (let start = 0; start < options.count; start += atATime) {
    const indices = Array.from(
      { length: Math.min(atATime, options.count - start) },
      (_, index) => start + index,
    )
    const batch = indices.map((index) => planPicture(options, index, renders))
    for (const { file, captions, label, aestheticScore: score } of batch)
      lines.push(JSON.stringify({ file, captions, label, aesthetic_score: score }))
    await Promise.all(
      batch.map(async ({ file, composition }) => {
        const picture = await paint(composition, renders.sprite.bind(renders))
        const path = join(options.out, file)
        await mkdir(dirname(path), { recursive: true })
        await writeFile(path, await encoded(picture))
      }),
    )
  }
  // Last: a folder with captions is complete.
  await writeFile(join(options.out, 'captions.jsonl'), `${lines.join('\n')}\n`)
}

const encoded = async ({ width, height, pixels }: Picture): Promise<Buffer> =>
  sharp(pixels, { raw: { width, height, channels: 3 } })
    .png({ compressionLevel: 6 })
    .toBuffer()
