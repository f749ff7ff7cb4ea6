/**
 * `node recipes/emoji/compare-stages.ts`: two ways of training the same architecture on the same pictures, held against each other at
 * 25, 50 and 100 % of one budget of device time. Each way is a list of jobs that `atelier finetune` ran, each begun with the
 * result of the one before; they need checkpoints near those shares (`keep_checkpoints`).
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Command } from 'commander'
import { listCheckpoints } from '../../src/training/checkpoint.ts'
import { readMetrics } from './training-record.ts'

const shares = [0.25, 0.5, 1]
const cli = fileURLToPath(new URL('../../src/cli.ts', import.meta.url))

interface Options {
  readonly staged: readonly string[]
  readonly scratch: readonly string[]
  readonly suite: string
  readonly out: string
  readonly limit?: string
  readonly seeds?: string
}

interface Moment {
  readonly job: string
  readonly checkpoint: string
  /** Of all jobs of this way up to here. */
  readonly deviceSeconds: number
}

await new Command('node recipes/emoji/compare-stages.ts')
  .requiredOption('--staged <folders...>', 'jobs that train in stages')
  .requiredOption('--scratch <folders...>', 'jobs that train on text from the start')
  .requiredOption('--suite <folder>', 'what both are evaluated by')
  .requiredOption('--out <folder>', 'where evaluations are kept')
  .option('--limit <n>', 'of each group no more prompts than these')
  .option('--seeds <n>', 'of each prompt no more seeds than these')
  .action(compare)
  .parseAsync()

async function compare({ staged, scratch, out, ...options }: Options): Promise<void> {
  const ways = { 'three stages': await momentsOf(staged), 'text from the start': await momentsOf(scratch) }
  const budget = Math.min(...Object.values(ways).map((moments) => moments.at(-1)!.deviceSeconds))
  const rows = [
    [
      'budget',
      'training',
      'device s',
      'top-1',
      'top-5',
      'background',
      'object in top-5',
      'placement',
      'Fréchet',
    ],
  ]
  for (const share of shares)
    for (const [name, moments] of Object.entries(ways)) {
      const moment = nearestTo(moments, share * budget)
      const folder = resolve(out, `${name.replaceAll(' ', '-')}-${100 * share}`)
      const report = await evaluate(moment, folder, options)
      const cells = [`${100 * share} %`, name, moment.deviceSeconds.toFixed(0), ...figuresOf(report)]
      console.log(cells.join('  '))
      rows.push(cells)
    }
  console.log()
  for (const [index, row] of rows.entries()) {
    console.log(`| ${row.join(' | ')} |`)
    if (index === 0) console.log(`|${'---|'.repeat(row.length)}`)
  }
}

async function momentsOf(jobs: readonly string[]): Promise<readonly Moment[]> {
  const moments: Moment[] = []
  let before = 0
  for (const job of jobs.map((folder) => resolve(folder))) {
    const steps = readMetrics(await readFile(join(job, 'metrics.csv'), 'utf8'))
    const secondsUntil = (stage: number, stageStep: number) =>
      steps
        .filter((row) => row.stage < stage || (row.stage === stage && row.stageStep <= stageStep))
        .reduce((sum, { deviceMs }) => sum + deviceMs / 1000, before)
    for (const checkpoint of await listCheckpoints(job)) {
      const [stage, stageStep] = checkpoint.split('-').map(Number) as [number, number]
      moments.push({ job, checkpoint, deviceSeconds: secondsUntil(stage, stageStep) })
    }
    before = secondsUntil(Infinity, 0)
  }
  if (moments.length === 0) throw new Error(`${jobs.join(', ')}: expected jobs with checkpoints, got none`)
  return moments
}

function nearestTo(moments: readonly Moment[], seconds: number): Moment {
  return moments.reduce((best, one) =>
    Math.abs(one.deviceSeconds - seconds) < Math.abs(best.deviceSeconds - seconds) ? one : best,
  )
}

interface Share {
  readonly share: number
}

interface Report {
  readonly groups: readonly (Readonly<Record<'top1' | 'top5' | 'background' | 'placement', Share>> & {
    readonly group: string
  })[]
  readonly frechet_distance?: number
}

/** By the commands that anyone would use. An evaluation that is there is not made again. */
async function evaluate(
  { job, checkpoint }: Moment,
  folder: string,
  { suite, limit, seeds }: Pick<Options, 'suite' | 'limit' | 'seeds'>,
): Promise<Report> {
  const report = join(folder, 'report.json')
  const known = await readFile(report, 'utf8').catch(() => undefined)
  if (known !== undefined) return JSON.parse(known) as Report
  const model = `${folder}.model`
  await rm(model, { recursive: true, force: true })
  await atelier('model', 'export', job, model, '--checkpoint', checkpoint)
  const fewer = [...(limit ? ['--limit', limit] : []), ...(seeds ? ['--seeds', seeds] : [])]
  await atelier('evaluate', model, '--suite', suite, '--out', folder, ...fewer)
  return JSON.parse(await readFile(report, 'utf8')) as Report
}

async function atelier(...args: readonly string[]): Promise<void> {
  const child = spawn(process.execPath, [cli, ...args], { stdio: ['ignore', 'ignore', 'inherit'] })
  const [status] = (await once(child, 'exit')) as [number | null]
  if (status !== 0) throw new Error(`atelier ${args.join(' ')} ended with ${status}`)
}

function figuresOf({ groups, frechet_distance: distance }: Report): readonly string[] {
  const [named, heldOut] = ['named', 'held-out'].map((name) => groups.find(({ group }) => group === name))
  const told = (share: Share | undefined) => (share ? `${(100 * share.share).toFixed(1)} %` : '–')
  return [
    told(named?.top1),
    told(named?.top5),
    told(heldOut?.background),
    told(heldOut?.top5),
    told(heldOut?.placement),
    distance?.toPrecision(3) ?? '–',
  ]
}
