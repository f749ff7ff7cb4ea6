/** What an evaluation found, as lines for people and as JSON. */
import { fewestPictures } from './frechet.ts'
import type { Evaluation, GroupShares } from './evaluate.ts'
import { backgroundBound, measures, placementBound, type Measure } from './measures.ts'
import type { Proportion } from './proportion.ts'
import type { Suite } from './suite.ts'

export interface Evaluated {
  readonly model: { readonly name: string; readonly version: string }
  readonly settings: {
    readonly steps: number
    readonly guidanceScale: number
    readonly scheduler: string
  }
  readonly suite: Suite
  readonly evaluation: Evaluation
  /** Of the same architecture with random weights. */
  readonly floor: Evaluation | undefined
}

const headings: Readonly<Record<Measure, string>> = {
  top1: 'top-1',
  top5: 'top-5',
  background: 'background',
  placement: 'placement',
}

/** A row for every group, with 95 % confidence intervals, the distances, and what the measures mean. */
export function reportLines({ model, settings, suite, evaluation, floor }: Evaluated): readonly string[] {
  const { steps, guidanceScale, scheduler } = settings
  const rows = [
    ...evaluation.groups.map((group) => rowOf(group, group.group)),
    ...(floor?.groups ?? []).map((group) => rowOf(group, `${group.group}, random weights`)),
  ]
  const asked = measures.filter((measure) => rows.some(({ shares }) => shares.has(measure)))
  const table = [
    ['', 'pictures', ...asked.map((measure) => headings[measure])],
    ...rows.map(({ name, pictures, shares }) => [
      name,
      String(pictures),
      ...asked.map((measure) => shareText(shares.get(measure))),
    ]),
  ]
  const { references } = suite
  return [
    `${suite.name} on ${model.name} (${model.version}): ${steps} steps of ${scheduler}, guidance ${guidanceScale}`,
    '',
    ...aligned(table),
    '',
    ...frechetLines(suite, evaluation, floor),
    ...(references
      ? [`top-1, top-5: nearest of ${references.items.size} items, on the background measured`]
      : []),
    ...(asked.includes('background') ? [`background: within ΔE ${backgroundBound} in OKLab`] : []),
    ...(asked.includes('placement')
      ? [`placement: middle of the box within ${placementBound} of the picture's sides`]
      : []),
    ...(asked.length > 0 ? ['in brackets: 95 % confidence intervals (Wilson)'] : []),
  ]
}

const rowOf = ({ pictures, shares }: GroupShares, name: string) => ({ name, pictures, shares })

function frechetLines(
  { references }: Suite,
  evaluation: Evaluation,
  floor: Evaluation | undefined,
): readonly string[] {
  if (!references?.renders) return []
  const { gaussian, perfect } = references.renders
  const told = ({ frechetDistance, pictures }: Evaluation) =>
    frechetDistance === undefined
      ? `not measured with ${pictures.length} pictures (from ${fewestPictures} on)`
      : `${frechetDistance.toPrecision(3)} over ${pictures.length} pictures`
  return [
    `Fréchet distance, squared, to ${gaussian.count} held-out renders: ${told(evaluation)}`,
    `  ${perfect.count} other renders: ${perfect.distance.toPrecision(3)}`,
    ...(floor ? [`  random weights: ${told(floor)}`] : []),
  ]
}

const percent = (share: number) => (100 * share).toFixed(1)

const shareText = (share: Proportion | undefined): string =>
  share ? `${percent(share.share)} % [${percent(share.low)}, ${percent(share.high)}]` : '–'

/** The first column to the left, the others to the right. */
function aligned(table: readonly (readonly string[])[]): readonly string[] {
  const widths = table[0]!.map((_, column) => Math.max(...table.map((row) => row[column]!.length)))
  return table.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!)))
      .join('  '),
  )
}

/** @param fileOf where a picture lies, beside the report */
export function reportJson(
  { model, settings, suite, evaluation, floor }: Evaluated,
  fileOf: (index: number) => string,
): unknown {
  const { name, description, references } = suite
  return {
    suite: { name, description, items: references?.items.size },
    model,
    settings,
    bounds: { background: backgroundBound, placement: placementBound, confidence: 0.95 },
    ...figures(evaluation),
    renders: references?.renders && {
      count: references.renders.gaussian.count,
      perfect: references.renders.perfect,
    },
    floor: floor && { pictures: floor.pictures.length, ...figures(floor) },
    pictures: evaluation.pictures.map(
      ({ index, prompt: { prompt, group, expect }, seed, sighting, verdict }) => ({
        file: fileOf(index),
        prompt,
        group,
        seed,
        expect,
        box: sighting.box,
        nearest: verdict.neighbours.map(({ id, distance }) => ({
          id,
          name: references?.items.get(id)?.name,
          distance: rounded(distance),
        })),
        background_distance: rounded(verdict.backgroundDistance),
        placement_distance: rounded(verdict.placementDistance),
        right: Object.fromEntries(verdict.right),
      }),
    ),
  }
}

const figures = ({ groups, frechetDistance }: Evaluation) => ({
  groups: groups.map(({ group, pictures, shares }) => ({ group, pictures, ...Object.fromEntries(shares) })),
  frechet_distance: frechetDistance,
})

const rounded = (value: number | undefined) =>
  value === undefined ? undefined : Number(value.toPrecision(4))
