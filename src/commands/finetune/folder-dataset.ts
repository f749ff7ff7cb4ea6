/** A folder of pictures as a job's dataset: read and checked where it lies, what is wrong with it told on the terminal. */
import {
  isCaptionProblem,
  isLeftOut,
  problemEffects,
  type Problem,
  type ProblemEffect,
} from '../../datasets/problems.ts'
import { readFolder, type CheckedItem } from '../../datasets/scan.ts'
import type { ValidatedData } from '../../fine-tuning/datasets.ts'
import { countForStages, type DataCounts } from '../../fine-tuning/validation.ts'
import { writeManifest } from '../../training/data/manifest.ts'
import type { TrainingItem, TrainingStage } from '../../training/job.ts'

/** Problems beyond so many are counted and not told one by one. */
const toldProblems = 20

export class FolderDataset implements ValidatedData {
  readonly #folder: string
  readonly #tell: (line: string) => void
  readonly #problems: Problem[] = []
  /** Ids of pictures. */
  readonly #badlyCaptioned = new Set<string>()
  #items = 0
  #badCaptions = 0

  constructor(folder: string, tell: (line: string) => void) {
    this.#folder = folder
    this.#tell = tell
  }

  /** @throws {DatasetError} when the folder as a whole is not usable */
  async snapshot(_id: string, file: string) {
    await writeManifest(file, this.#read())
    return this.#counts()
  }

  async problems() {
    return { data: this.#problems.map((each) => ({ ...each, effect: problemEffects[each.code] })) }
  }

  /** What a job's data are judged by, without writing anything. @throws {DatasetError} */
  async count(stages: readonly TrainingStage[]): Promise<DataCounts> {
    const ofStages = await countForStages(this.#read(), stages)
    const { items: pictures, ...counts } = this.#counts()
    return { ...counts, pictures, stages: ofStages }
  }

  #counts() {
    const leftOut = this.#problems.filter(isLeftOut).length
    return { items: this.#items, leftOut, badCaptions: this.#badCaptions }
  }

  async *#read(): AsyncGenerator<TrainingItem> {
    this.#problems.length = 0
    this.#badlyCaptioned.clear()
    this.#items = 0
    this.#badCaptions = 0
    for await (const reading of readFolder(this.#folder)) {
      switch (reading.kind) {
        case 'progress':
          break
        case 'problem':
          this.#note(reading.problem)
          break
        case 'item': {
          const item = toTrainingItem(reading.item)
          this.#items += 1
          this.#badCaptions += Number(item.captions.length === 0 && this.#badlyCaptioned.has(item.id))
          yield item
        }
      }
    }
    const more = this.#problems.length - toldProblems
    if (more > 0) this.#tell(`and ${more} more problems`)
  }

  #note(problem: Problem): void {
    this.#problems.push(problem)
    if (problem.itemId !== undefined && isCaptionProblem(problem)) this.#badlyCaptioned.add(problem.itemId)
    if (this.#problems.length > toldProblems) return
    this.#tell(`${problem.path}: ${effects[problemEffects[problem.code]]}: ${problem.message}`)
  }
}

const effects: Readonly<Record<ProblemEffect, string>> = {
  left_out: 'left out',
  kept: 'used without that',
}

const toTrainingItem = (item: CheckedItem): TrainingItem => {
  const { id, file, sha256, width, height, captions, label, aestheticScore } = item
  return { id, file, sha256, width, height, captions, label, aestheticScore }
}
