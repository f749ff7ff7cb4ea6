/** Reads a folder or an archive to its end and sorts what it tells. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll } from 'vitest'
import { archiveEntries } from '../../src/datasets/archive.ts'
import type { CheckedItem, LabelSource } from '../../src/datasets/join.ts'
import { defaultLimits, type DatasetLimits } from '../../src/datasets/limits.ts'
import { copiedInto } from '../../src/datasets/picture-files.ts'
import type { Problem } from '../../src/datasets/problems.ts'
import { readEntries, type Reading } from '../../src/datasets/read-entries.ts'
import { readFolder } from '../../src/datasets/scan.ts'

export interface Read {
  readonly items: readonly CheckedItem[]
  readonly problems: readonly Problem[]
  /** [path, code] of each problem, sorted. */
  readonly wrong: readonly (readonly [string, string])[]
}

interface Options {
  readonly limits?: Partial<DatasetLimits>
  readonly labels?: LabelSource
}

async function collect(readings: AsyncIterable<Reading>): Promise<Read> {
  const items: CheckedItem[] = []
  const problems: Problem[] = []
  for await (const reading of readings) {
    if (reading.kind === 'item') items.push(reading.item)
    if (reading.kind === 'problem') problems.push(reading.problem)
  }
  const wrong = problems.map(({ path, code }) => [path, code] as const)
  return { items, problems, wrong: wrong.toSorted(([a], [b]) => (a < b ? -1 : 1)) }
}

/** Folders of one test file, removed after it. */
export function useFolders() {
  let root: string
  let count = 0
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'atelier-datasets-'))
  })
  afterAll(() => rm(root, { recursive: true }))
  const fresh = async () => {
    count += 1
    const folder = join(root, String(count), 'within')
    await mkdir(folder, { recursive: true })
    return folder
  }
  return {
    fresh,
    async folder(files: Readonly<Record<string, Buffer | string>>): Promise<string> {
      const folder = await fresh()
      for (const [name, data] of Object.entries(files)) {
        await mkdir(dirname(join(folder, name)), { recursive: true })
        await writeFile(join(folder, name), data)
      }
      return folder
    },
    async readFolder(
      files: Readonly<Record<string, Buffer | string>>,
      { limits, labels = 'auto' }: Options = {},
    ) {
      const options = { limits: { ...defaultLimits, ...limits }, labels }
      return collect(readFolder(await this.folder(files), options))
    },
    /** Also tells where the pictures were put. */
    async readArchive(
      bytes: Buffer,
      { limits, labels = 'auto' }: Options = {},
    ): Promise<Read & { folder: string }> {
      const folder = await fresh()
      const file = join(folder, '..', 'upload')
      await writeFile(file, bytes)
      const options = { limits: { ...defaultLimits, ...limits }, labels, files: copiedInto(folder, 1) }
      return { ...(await collect(readEntries(archiveEntries(file, options.limits), options))), folder }
    },
  }
}
