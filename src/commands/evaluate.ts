/** `atelier evaluate DIR`: a checkpoint's pictures of a suite of prompts, made by the engine that serves, and what is right about them. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import sharp from 'sharp'
import type { Config } from '../config.ts'
import { startPool, type ImageRequest, type Picture, type Pool } from '../engine/pool.ts'
import { contactSheet, spread } from '../evaluation/contact-sheet.ts'
import { judgeAll, ordersOf, sightAll, type Evaluation, type Order } from '../evaluation/evaluate.ts'
import { fewestPictures } from '../evaluation/frechet.ts'
import { reportJson, reportLines, type Evaluated } from '../evaluation/report.ts'
import { readSuite } from '../evaluation/suite-folder.ts'
import { SuiteError, type Suite } from '../evaluation/suite.ts'
import { readContract } from '../http/contract.ts'
import { ApiError } from '../http/errors.ts'
import { readParameters } from '../http/limits.ts'
import { deviceOptions, tellDevice } from './devices.ts'
import { Counter } from './evaluate/counter.ts'
import { withRandomWeights } from './evaluate/random-weights.ts'
import { interruptedStatus, onInterruption } from './interruption.ts'
import { findModels, type ModelFolder } from './model-folder.ts'

export interface EvaluateOptions {
  /** `evaluation/suite.json` in the model's folder unless given. */
  readonly suite?: string
  /** Below the data folder unless given. */
  readonly out?: string
  readonly seeds?: number
  readonly limit?: number
  readonly steps?: number
  readonly guidanceScale?: number
  readonly floor?: true
}

/** @returns the exit status: 2 for a suite that is wrong, 130 when interrupted */
export async function evaluate(config: Config, folder: string, options: EvaluateOptions): Promise<number> {
  const [model] = await findModels([folder])
  const interruption = onInterruption(() => console.log('interrupted: ending'))
  const { signal } = interruption
  try {
    const suite = await readSuite(options.suite ?? join(model.folder, 'evaluation'))
    const out = resolve(options.out ?? join(config.dataDir, 'evaluations', model.name.replaceAll('/', '--')))
    const floor = options.floor && (await withRandomWeights(model.folder, join(config.dataDir, 'cache')))
    try {
      await run(config, { suite, model, floor, out, options, signal })
    } finally {
      await floor?.remove()
    }
    return 0
  } catch (error) {
    if (signal.aborted) return interruptedStatus
    if (!(error instanceof SuiteError)) throw error
    console.error(error.message)
    return 2
  } finally {
    interruption.forget()
  }
}

interface Run {
  readonly suite: Suite
  readonly model: ModelFolder
  readonly floor: ModelFolder | undefined
  readonly out: string
  readonly options: EvaluateOptions
  readonly signal: AbortSignal
}

async function run(config: Config, { suite, model, floor, out, options, signal }: Run): Promise<void> {
  const models = floor ? [model, floor] : [model]
  const pool = await startPool(deviceOptions(config, models), (event) => tellDevice(event, console.log))
  try {
    const orders = ordersOf(suite, { prompts: options.limit, seeds: options.seeds })
    const requests = requestsFor(orders, model.name, { config, pool, options })
    await mkdir(join(out, 'pictures'), { recursive: true })
    console.log(`making ${orders.length} pictures for ${suite.name}`)
    const evaluation = await evaluateModel(orders, suite, signal, {
      name: model.name,
      make: async ({ index }, ending) => {
        const picture = await pool.generate(requests[index]!, { signal: ending })
        await writePng(join(out, fileOf(index)), picture)
        return picture
      },
    })
    const few = spread(orders, fewestPictures).map((order, index) => ({ ...order, index }))
    const ofFew = floor && requestsFor(few, floor.name, { config, pool, options })
    const lowest = ofFew && {
      name: 'random weights',
      make: ({ index }: Order, ending: AbortSignal) => pool.generate(ofFew[index]!, { signal: ending }),
    }
    const { steps, guidanceScale, scheduler } = requests[0]!
    const evaluated: Evaluated = {
      model: {
        name: model.name,
        version: pool.models.find(({ name }) => name === model.name)?.version ?? '',
      },
      settings: { steps, guidanceScale, scheduler },
      suite,
      evaluation,
      floor: lowest && (await evaluateModel(few, suite, signal, lowest)),
    }
    await writeReport(out, evaluated)
    for (const line of reportLines(evaluated)) console.log(line)
    console.log(`pictures, contact sheets and report.json are in ${out}`)
  } finally {
    await pool.close()
  }
}

interface Maker {
  readonly name: string
  readonly make: (order: Order, signal: AbortSignal) => Promise<Picture>
}

async function evaluateModel(
  orders: readonly Order[],
  suite: Suite,
  signal: AbortSignal,
  { name, make }: Maker,
): Promise<Evaluation> {
  const made = new Counter(`pictures of ${name}`, orders.length, process.stdout)
  let done = 0
  const counted = async (order: Order, ending: AbortSignal): Promise<Picture> => {
    const picture = await make(order, ending)
    made.reach(++done)
    return picture
  }
  const sightings = await sightAll(orders, counted, signal).finally(() => made.end())
  const compared = new Counter('compared', orders.length, process.stdout)
  return judgeAll(orders, sightings, suite, { signal, onJudged: (count) => compared.reach(count) }).finally(
    () => compared.end(),
  )
}

interface Defaults {
  readonly config: Config
  readonly pool: Pool
  readonly options: EvaluateOptions
}

/**
 * With the served defaults: scheduler, and steps and guidance unless they are given.
 * @throws {SuiteError} when a prompt asks for what is not served, such as too large a picture
 */
function requestsFor(
  orders: readonly Order[],
  model: string,
  { config, pool, options: { steps, guidanceScale } }: Defaults,
): readonly ImageRequest[] {
  const contract = readContract()
  return orders.map(({ index, prompt: { prompt, size }, seed }) => {
    const body = {
      model,
      prompt,
      seed,
      ...(steps === undefined ? {} : { steps }),
      ...(guidanceScale === undefined ? {} : { guidance_scale: guidanceScale }),
      ...(size && { size: `${size.width}x${size.height}` }),
    }
    try {
      const parameters = readParameters(body, { contract, config, models: pool.models })
      const { count: _count, format: _format, compression: _compression, ...request } = parameters
      return { ...request, id: `${model}/${index}`, priority: 'normal' }
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      throw new SuiteError(`${JSON.stringify(prompt)}: ${error.message}`, { cause: error })
    }
  })
}

async function writeReport(out: string, evaluated: Evaluated): Promise<void> {
  const { suite, evaluation } = evaluated
  for (const [group, members] of Map.groupBy(evaluation.pictures, ({ prompt }) => prompt.group)) {
    const sheet = await contactSheet(members, suite.references, (index) => join(out, fileOf(index)))
    await writeFile(join(out, `contact-sheet-${group}.webp`), sheet)
  }
  const report = JSON.stringify(reportJson(evaluated, fileOf), null, 2)
  await writeFile(join(out, 'report.json'), `${report}\n`)
}

const fileOf = (index: number): string => `pictures/${String(index).padStart(5, '0')}.png`

const writePng = async (file: string, { pixels, width, height }: Picture): Promise<void> =>
  void (await sharp(pixels, { raw: { width, height, channels: 3 } })
    .png()
    .toFile(file))
