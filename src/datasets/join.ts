/**
 * Which caption, label and score belong to which picture. Rows go before texts beside the picture, and both before the names of
 * folders; several rows for one picture add up their captions.
 */
import { setImmediate as breathe } from 'node:timers/promises'
import { resolveWithin } from './entry-name.ts'
import { problem, type Problem } from './problems.ts'
import type { PictureFormat } from './pictures.ts'
import type { MetadataRow } from './texts.ts'

/**
 * Where labels come from. `auto`: from the rows; when there is no metadata at all and the pictures lie in several folders, from the names of
 * those, as Hugging Face's imagefolder has it. `folders`: from these always.
 */
export const labelSources = ['auto', 'folders', 'none'] as const
export type LabelSource = (typeof labelSources)[number]

export interface FoundPicture {
  readonly path: string
  readonly folder: string
  readonly stem: string
  readonly file: string
  readonly sha256: string
  readonly format: PictureFormat
  readonly width: number
  readonly height: number
  readonly sizeBytes: number
}

export interface FoundRow extends MetadataRow {
  /** The file that it is in. */
  readonly source: string
  readonly folder: string
}

export interface FoundSidecar {
  readonly path: string
  readonly stem: string
  readonly caption: string
}

export interface Found {
  readonly pictures: readonly FoundPicture[]
  /** Of pictures that were left out: what belongs to them needs no problem of its own. */
  readonly leftOut: { readonly paths: ReadonlySet<string>; readonly stems: ReadonlySet<string> }
  readonly rows: readonly FoundRow[]
  readonly sidecars: readonly FoundSidecar[]
  /** Problems with texts beside pictures, by the pictures' stems. */
  readonly sidecarProblems: readonly { readonly stem: string; readonly problem: Problem }[]
  readonly hasMetadata: boolean
}

export interface CheckedItem extends Omit<FoundPicture, 'folder' | 'stem'> {
  /** The same for the same bytes, in every dataset. */
  readonly id: string
  readonly captions: readonly string[]
  readonly label: string | undefined
  readonly aestheticScore: number | undefined
}

export interface Joined {
  /** In the order of their paths, whatever order they came in. */
  readonly items: readonly CheckedItem[]
  readonly problems: readonly Problem[]
}

export const itemIdOf = (sha256: string): string => `itm_${sha256.slice(0, 32)}`

/** Rows and pictures between two of which other work has its turn. */
const atOnce = 1000

export async function join(found: Found, labels: LabelSource, maxPathLength: number): Promise<Joined> {
  const problems: Problem[] = []
  const pictures = found.pictures.toSorted((a, b) => (a.path < b.path ? -1 : 1))
  const ids = new Map(pictures.map(({ path, sha256 }) => [path, itemIdOf(sha256)]))
  const stems = Map.groupBy(pictures, ({ stem }) => stem)

  const rows = new Map<string, Merged>()
  for (const [index, row] of found.rows.entries()) {
    if (index % atOnce === 0) await breathe()
    const path = resolveWithin(row.folder, row.file, maxPathLength)
    if (path === undefined) {
      const message = `expected the name of a file in this folder or below, got ${JSON.stringify(row.file.slice(0, 100))}`
      problems.push(problem(row.source, 'invalid_metadata', message))
    } else if (ids.has(path)) rows.set(path, merge(rows.get(path), row, path, ids.get(path) ?? '', problems))
    else if (!found.leftOut.paths.has(path))
      problems.push(
        problem(path, 'missing_picture', `expected this picture, which ${row.source} names; there is none`),
      )
  }

  const beside = new Map<string, string>()
  for (const { path, stem, caption } of found.sidecars) {
    if (stems.has(stem)) beside.set(stem, caption)
    else if (!found.leftOut.stems.has(stem))
      problems.push(
        problem(path, 'unmatched_text', 'expected a picture of the same name beside it; there is none'),
      )
  }
  for (const { stem, problem: wrong } of found.sidecarProblems) {
    const [picture] = stems.get(stem) ?? []
    problems.push(picture ? { ...wrong, itemId: itemIdOf(picture.sha256) } : wrong)
  }

  const labelOf = labeller(labels, found)
  const items: CheckedItem[] = []
  for (const [index, { folder, stem, ...picture }] of pictures.entries()) {
    if (index % atOnce === 0) await breathe()
    const row = rows.get(picture.path)
    const caption = beside.get(stem)
    const captions = row?.captions.length ? row.captions : caption === undefined ? [] : [caption]
    const id = itemIdOf(picture.sha256)
    if (row?.hasEmptyCaption && captions.length === 0)
      problems.push(problem(picture.path, 'empty_caption', 'expected a caption, got an empty text', id))
    items.push({
      ...picture,
      id,
      captions,
      label: labelOf(row?.label, folder),
      aestheticScore: row?.aestheticScore,
    })
  }
  return { items, problems }
}

type Merged = Pick<MetadataRow, 'captions' | 'hasEmptyCaption' | 'label' | 'aestheticScore'>

function merge(
  earlier: Merged | undefined,
  row: FoundRow,
  path: string,
  id: string,
  problems: Problem[],
): Merged {
  if (!earlier) return row
  const conflicts = (['label', 'aestheticScore'] as const).filter(
    (name) => earlier[name] !== undefined && row[name] !== undefined && earlier[name] !== row[name],
  )
  for (const name of conflicts) {
    const field = name === 'label' ? 'label' : 'aesthetic_score'
    const message = `expected one ${field}, got ${JSON.stringify(earlier[name])} and ${JSON.stringify(row[name])}; the first is taken`
    problems.push(problem(path, 'conflicting_metadata', message, id))
  }
  return {
    captions: [...new Set([...earlier.captions, ...row.captions])],
    hasEmptyCaption: earlier.hasEmptyCaption || row.hasEmptyCaption,
    label: earlier.label ?? row.label,
    aestheticScore: earlier.aestheticScore ?? row.aestheticScore,
  }
}

function labeller(source: LabelSource, { pictures, hasMetadata }: Found) {
  const byFolder = (folder: string) => folder.slice(folder.lastIndexOf('/') + 1) || undefined
  switch (source) {
    case 'none':
      return () => undefined
    case 'folders':
      return (_label: string | undefined, folder: string) => byFolder(folder)
    case 'auto': {
      const isSorted = !hasMetadata && new Set(pictures.map(({ folder }) => folder)).size > 1
      return (label: string | undefined, folder: string) => (isSorted ? byFolder(folder) : label)
    }
  }
}
