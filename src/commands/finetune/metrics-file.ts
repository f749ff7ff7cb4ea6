/** `metrics.csv` in a job's folder: a row for every step, in the columns that the service tells metrics in. */
import { appendFile, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { csvHeader, csvRow, lineEnd } from '../../fine-tuning/metrics-csv.ts'
import { overallStep } from '../../fine-tuning/specification.ts'
import type { StepReport, TrainingJob } from '../../training/job.ts'

const betweenWritesMs = 2_000

export class MetricsFile {
  readonly #file: string
  readonly #job: Pick<TrainingJob, 'stages'>
  #rows = ''
  #writtenAtMs = 0
  /** Writes follow each other. */
  #writing: Promise<void> | undefined

  constructor(job: Pick<TrainingJob, 'folder' | 'stages'>) {
    this.#file = join(job.folder, 'metrics.csv')
    this.#job = job
  }

  note({ stage, step: stageStep, ...report }: StepReport): void {
    const step = overallStep(this.#job, stage, stageStep)
    this.#writing ??= this.#begin(step)
    this.#rows += csvRow({ ...report, step, stage, stageStep })
    if (performance.now() - this.#writtenAtMs >= betweenWritesMs) this.#write()
  }

  /** @throws what kept it from being written */
  async end(): Promise<void> {
    if (this.#rows !== '') this.#write()
    await this.#writing
  }

  /** What came after the checkpoint that a run goes on from is told again. */
  async #begin(first: number): Promise<void> {
    const before = await readFile(this.#file, 'utf8').catch(() => csvHeader)
    const [header = '', ...rows] = before.split(lineEnd)
    const kept = rows.filter((row) => row !== '' && Number.parseInt(row) < first)
    await writeFile(this.#file, [header, ...kept, ''].join(lineEnd))
  }

  #write(): void {
    const rows = this.#rows
    this.#rows = ''
    this.#writtenAtMs = performance.now()
    this.#writing = this.#writing?.then(() => appendFile(this.#file, rows))
    // Told by `end`; until then it must not end the process.
    this.#writing?.catch(() => undefined)
  }
}
