/**
 * A suite as files: `suite.json`, beside it the items' atlas (`items.webp`) and the statistics of renders (`renders.json`), both of
 * which a suite may do without.
 */
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { packAtlas, unpackAtlas } from './atlas.ts'
import { dimensions, projectionName } from './frechet.ts'
import { PlaceInFile } from './place-in-file.ts'
import {
  SuiteError,
  type Expectation,
  type NamedPoint,
  type NamedRgb,
  type ReferenceItem,
  type References,
  type RenderStatistics,
  type Suite,
  type SuitePrompt,
} from './suite.ts'

const files = { suite: 'suite.json', atlas: 'items.webp', renders: 'renders.json' } as const
const largestSide = 8192
const mostItems = 16_384
const largestSeed = Number.MAX_SAFE_INTEGER

/**
 * @param path of suite.json, whatever it is called, or of the folder that it lies in
 * @throws {SuiteError} one line: which file, where in it, what was expected, and what came
 */
export async function readSuite(path: string): Promise<Suite> {
  const file = (await isFolder(path)) ? join(path, files.suite) : path
  const { name, description, references, prompts } = (await readJson(file)).fields(
    ['name', 'prompts'],
    ['description', 'references'],
  )
  const held = references && (await readReferences(references, dirname(file)))
  const [first, ...others] = prompts.filledList()
  return {
    name: name.text(),
    description: description?.text() ?? '',
    references: held,
    prompts: [readPrompt(first, held), ...others.map((each) => readPrompt(each, held))],
  }
}

function readPrompt(place: PlaceInFile, references: References | undefined): SuitePrompt {
  const { prompt, group, seeds, width, height, expect } = place.fields(
    ['prompt', 'group', 'seeds'],
    ['width', 'height', 'expect'],
  )
  if ((width === undefined) !== (height === undefined)) place.fail('both of width and height, or neither')
  return {
    prompt: prompt.text(),
    group: readGroup(group),
    seeds: seeds.filledList().map((seed) => seed.whole(0, largestSeed)),
    size: width && height && { width: width.whole(1, largestSide), height: height.whole(1, largestSide) },
    expect: expect ? readExpectation(expect, references) : {},
  }
}

/** It names a file. */
function readGroup(place: PlaceInFile): string {
  const group = place.text()
  return /^[a-z0-9][a-z0-9-]{0,39}$/.test(group)
    ? group
    : place.fail('small letters, digits and hyphens, 40 at most')
}

function readExpectation(place: PlaceInFile, references: References | undefined): Expectation {
  const { item, background, placement } = place.fields([], ['item', 'background', 'placement'])
  return {
    ...(item && { item: readItem(item, references) }),
    ...(background && { background: readBackground(background) }),
    ...(placement && { placement: readPlacement(placement) }),
  }
}

function readItem(place: PlaceInFile, references: References | undefined): string {
  if (!references) return place.fail('nothing, since the suite has no references')
  const id = place.text()
  return references.items.has(id) ? id : place.fail("an id of the references' items")
}

function readBackground(place: PlaceInFile): NamedRgb {
  const { name, rgb } = place.fields(['name', 'rgb'])
  const channels = rgb.list().map((channel) => channel.whole(0, 255))
  const [red, green, blue] = channels
  if (red === undefined || green === undefined || blue === undefined || channels.length > 3)
    return rgb.fail('red, green and blue')
  return { name: name.text(), rgb: [red, green, blue] }
}

function readPlacement(place: PlaceInFile): NamedPoint {
  const { name, x, y } = place.fields(['name', 'x', 'y'])
  return { name: name.text(), x: x.number(0, 1), y: y.number(0, 1) }
}

async function readReferences(place: PlaceInFile, folder: string): Promise<References> {
  const { atlas, cell, items, renders } = place.fields(['atlas', 'cell', 'items'], ['renders'])
  const side = cell.whole(8, 512)
  const read = items.filledList().map((each) => {
    const { id, name, width, height } = each.fields(['id', 'name', 'width', 'height'])
    return { id: id.text(), name: name.text(), width: width.whole(1, side), height: height.whole(1, side) }
  })
  if (read.length > mostItems) items.fail(`at most ${mostItems} items`)
  const ids = new Set(read.map(({ id }) => id))
  if (ids.size < read.length) items.fail('every id once')
  const file = besideSuite(atlas, folder)
  const sprites = await unpackAtlas(await readBytes(file), read, side).catch((error: unknown) => {
    if (error instanceof SuiteError) throw error
    throw new SuiteError(`${file}: expected the items' picture (${reasonOf(error)})`, { cause: error })
  })
  const named = read.map(({ id, name }, at): [string, ReferenceItem] => [id, { name, sprite: sprites[at]! }])
  return {
    items: new Map(named),
    renders: renders && (await readRenders(besideSuite(renders, folder))),
  }
}

/** Covariances are symmetric: of each row only what the rows before do not have. */
async function readRenders(file: string): Promise<RenderStatistics> {
  const { space, count, mean, covariance, perfect } = (await readJson(file)).fields([
    'space',
    'count',
    'mean',
    'covariance',
    'perfect',
  ])
  if (space.text() !== projectionName) space.fail(`${JSON.stringify(projectionName)}; make the suite anew`)
  const numbers = (place: PlaceInFile, length: number): readonly number[] => {
    const list = place.list().map((each) => each.number())
    return list.length === length ? list : place.fail(`a list of ${length}`)
  }
  const rows = covariance.list()
  if (rows.length !== dimensions) covariance.fail(`a list of ${dimensions}`)
  const whole = new Float64Array(dimensions * dimensions)
  for (const [row, each] of rows.entries())
    for (const [at, value] of numbers(each, dimensions - row).entries())
      whole[row * dimensions + row + at] = whole[(row + at) * dimensions + row] = value
  const { count: others, distance } = perfect.fields(['count', 'distance'])
  return {
    gaussian: {
      count: count.whole(2, 1e9),
      mean: Float64Array.from(numbers(mean, dimensions)),
      covariance: whole,
    },
    perfect: { count: others.whole(2, 1e9), distance: distance.number(0) },
  }
}

function besideSuite(place: PlaceInFile, folder: string): string {
  const name = place.text()
  return basename(name) === name && name !== '..'
    ? join(folder, name)
    : place.fail("a file's name, beside the suite")
}

/** The same suite gives the same bytes. */
export async function writeSuite(folder: string, suite: Suite): Promise<void> {
  const { name, description, references, prompts } = suite
  await mkdir(folder, { recursive: true })
  if (references) {
    const sprites = [...references.items.values()].map(({ sprite }) => sprite)
    await writeFile(join(folder, files.atlas), await packAtlas(sprites, cellOf(references)))
    if (references.renders) await writeFile(join(folder, files.renders), rendersJson(references.renders))
  }
  const line = (value: unknown) => `    ${JSON.stringify(value)}`
  const heading = [`  "name": ${JSON.stringify(name)}`, `  "description": ${JSON.stringify(description)}`]
  const items = references && [
    `  "references": {`,
    `    "atlas": ${JSON.stringify(files.atlas)},`,
    `    "cell": ${cellOf(references)},`,
    ...(references.renders ? [`    "renders": ${JSON.stringify(files.renders)},`] : []),
    `    "items": [`,
    [...references.items]
      .map(([id, { name: called, sprite }]) =>
        line({ id, name: called, width: sprite.width, height: sprite.height }),
      )
      .join(',\n'),
    `    ]\n  }`,
  ]
  const asked = prompts.map(({ size, expect, ...prompt }) => line({ ...prompt, ...size, expect }))
  const parts = [
    ...heading,
    ...(items ? [items.join('\n')] : []),
    `  "prompts": [\n${asked.join(',\n')}\n  ]`,
  ]
  await writeFile(join(folder, files.suite), `{\n${parts.join(',\n')}\n}\n`)
}

const cellOf = ({ items }: References): number =>
  Math.max(8, ...[...items.values()].flatMap(({ sprite }) => [sprite.width, sprite.height]))

function rendersJson({ gaussian, perfect }: RenderStatistics): string {
  const rounded = (value: number) => Number(value.toPrecision(9))
  const upperRows = Array.from({ length: dimensions }, (_, row) =>
    Array.from(gaussian.covariance.subarray(row * dimensions + row, (row + 1) * dimensions), rounded),
  )
  return `${JSON.stringify({
    space: projectionName,
    count: gaussian.count,
    mean: Array.from(gaussian.mean, rounded),
    covariance: upperRows,
    perfect: { count: perfect.count, distance: rounded(perfect.distance) },
  })}\n`
}

async function readJson(file: string): Promise<PlaceInFile> {
  const text = (await readBytes(file)).toString('utf8')
  try {
    return new PlaceInFile(file, JSON.parse(text))
  } catch (error) {
    throw new SuiteError(`${file}: expected JSON (${reasonOf(error)})`, { cause: error })
  }
}

const readBytes = async (file: string): Promise<Buffer> =>
  readFile(file).catch((error: unknown) => {
    throw new SuiteError(`${file}: expected a file of a suite (${reasonOf(error)})`, { cause: error })
  })

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

const isFolder = (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  )
