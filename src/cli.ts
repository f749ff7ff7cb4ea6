/** The only entry: reads the command line and the environment, and hands over to one command. */
import { enableCompileCache } from 'node:module'
import { fileURLToPath } from 'node:url'
import { Command, InvalidArgumentError, Option } from 'commander'
import packageJson from '../package.json' with { type: 'json' }
import type { EvaluateOptions } from './commands/evaluate.ts'
import type { FinetuneOptions } from './commands/finetune.ts'
import type { CreateKeyOptions } from './commands/key.ts'
import type { ExportOptions } from './commands/model/export.ts'
import type { PullCommandOptions } from './commands/model/pull.ts'
import type { QuantizeOptions } from './commands/model/quantize.ts'
import type { SynthOptions } from './commands/model/synth.ts'
import { ConfigError, describeSettings, readConfig } from './config.ts'
import { presetNames } from './models/presets.ts'
import { blockSizes } from './models/weight-storage.ts'

// Compiled sources are kept for the next start, of this process and of the device processes that inherit the variable.
process.env['NODE_COMPILE_CACHE'] ??= fileURLToPath(
  new URL('../node_modules/.cache/compiled', import.meta.url),
)
enableCompileCache(process.env['NODE_COMPILE_CACHE'])

// bin/atelier.mjs holds this channel open when the system's Node is not the pinned one; it closes however that process ends.
if (process.channel) {
  process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'))
  // Whoever listens holds it open; a command ends when its own work is done.
  process.channel.unref()
}

const program = new Command('atelier')
  .version(packageJson.version)
  .description('Text to image on your own machines: PixArt-α behind an HTTP API.')
  .showHelpAfterError()
  .addHelpText('after', () => {
    const rows = describeSettings().map(
      ({ variable, fallback, description, expected }) =>
        `  ${variable.padEnd(24)} ${description} (${expected}; default ${fallback === '' ? 'empty' : fallback})`,
    )
    return `\nEnvironment:\n${rows.join('\n')}`
  })

program
  .command('serve')
  .description('run the service: API, worker and device in one')
  .action(async () => {
    const { serve } = await import('./commands/serve.ts')
    await serve(readConfig(process.env))
  })

program
  .command('api')
  .description('speak HTTP and leave the work to workers, over a shared database')
  .action(async () => {
    const { api } = await import('./commands/api.ts')
    await api(readConfig(process.env))
  })

program
  .command('worker')
  .description('make pictures and run jobs for the API processes of a shared database')
  .action(async () => {
    const { worker } = await import('./commands/worker.ts')
    await worker(readConfig(process.env))
  })

program
  .command('migrate')
  .description('prepare a shared database, and end')
  .action(async () => {
    const { migrate } = await import('./commands/migrate.ts')
    await migrate(readConfig(process.env))
  })

program
  .command('status')
  .description('tell what the running server serves and how much waits')
  .action(async () => {
    const { status } = await import('./commands/status.ts')
    await status(readConfig(process.env))
  })

program
  .command('parity')
  .description('hold every stage of the pipeline, and its training, against reference tensors')
  .argument(
    '<dir>',
    'folder with checkpoint/, golden.safetensors and golden.json, and what there is of training.safetensors, gradients.safetensors and dit/',
  )
  .option('--out <file>', "also write every computed tensor, under the references' names, as safetensors")
  .action(async (folder: string, options: { out?: string }) => {
    const { parity } = await import('./commands/parity.ts')
    process.exitCode = await parity(readConfig(process.env), folder, options)
  })

program
  .command('finetune')
  .description('run a fine-tuning job without the server, or go on with one that was interrupted')
  .argument('<job>', 'what POST /v1/fine_tuning/jobs takes, as a JSON file, with a folder for the dataset')
  .option('--out <folder>', "the job's folder, for checkpoints and the result (default: the file's name)")
  .option('--dry-run', 'tell what the job would be and take, and write nothing')
  .action(async (file: string, options: FinetuneOptions) => {
    const { finetune } = await import('./commands/finetune.ts')
    process.exitCode = await finetune(readConfig(process.env), file, options)
  })

program
  .command('evaluate')
  .description('make the pictures of a suite of prompts, and tell how many show what was asked for')
  .argument('<dir>', 'checkpoint')
  .option('--suite <file>', "suite.json or its folder (default: evaluation/ in the checkpoint's folder)")
  .option('--out <folder>', 'for pictures, contact sheets and report.json (default: below the data folder)')
  .option('--seeds <n>', 'of each prompt no more seeds than these', positiveInteger)
  .option('--limit <n>', 'of each group no more prompts than these', positiveInteger)
  .option('--steps <n>', 'denoising steps (default: as served)', positiveInteger)
  .option('--guidance-scale <scale>', 'classifier-free guidance (default: as served)', guidanceScale)
  .option('--floor', 'also tell what the same architecture gets with random weights')
  .action(async (folder: string, options: EvaluateOptions) => {
    const { evaluate } = await import('./commands/evaluate.ts')
    process.exitCode = await evaluate(readConfig(process.env), folder, options)
  })

const key = program.command('key').description('make, list and revoke the keys that clients call with')

key
  .command('create')
  .description('make a key and print it; it is shown this once')
  .requiredOption('--name <name>', 'what it is for, to know it by')
  .option('--project <project>', 'whose pictures, datasets and jobs it sees', 'default')
  .option('--scopes <scopes>', 'what it may do: generate, read, admin, separated by commas', 'generate,read')
  .option('--expires-in-days <n>', 'it ends then (default: never)', positiveInteger)
  .option('--requests-per-minute <n>', 'default: ATELIER_REQUESTS_PER_MINUTE', positiveInteger)
  .option('--max-in-flight <n>', 'unfinished generations (default: ATELIER_MAX_IN_FLIGHT)', positiveInteger)
  .option('--images-per-month <n>', 'default: ATELIER_IMAGES_PER_MONTH', positiveInteger)
  .option('--webhook <url>', 'where the ends of its generations are told, unless a request says otherwise')
  .option('--json', 'for machines')
  .action(async (options: CreateKeyOptions) => {
    const { keyCreate } = await import('./commands/key.ts')
    await keyCreate(readConfig(process.env), options)
  })

key
  .command('list')
  .description('list the keys of all projects, newest first')
  .option('--json', 'for machines')
  .action(async (options: { json?: true }) => {
    const { keyList } = await import('./commands/key.ts')
    await keyList(readConfig(process.env), options)
  })

key
  .command('webhook')
  .description("tell the ends of a key's generations somewhere else, or nobody")
  .argument('<id>', 'as "key list" has it')
  .argument('[url]', 'nobody is told without one')
  .action(async (id: string, url: string | undefined) => {
    const { keyWebhook } = await import('./commands/key.ts')
    await keyWebhook(readConfig(process.env), id, url)
  })

key
  .command('revoke')
  .description('end a key for good')
  .argument('<id>', 'as "key list" has it')
  .action(async (id: string) => {
    const { keyRevoke } = await import('./commands/key.ts')
    await keyRevoke(readConfig(process.env), id)
  })

const model = program.command('model').description('make checkpoints and tell what they need')

model
  .command('pull')
  .description(
    'fetch a checkpoint from the Hugging Face hub or a mirror, or go on with one; HF_TOKEN lets in',
  )
  .argument('<repository>', 'as ORG/NAME')
  .argument('[dir]', 'folder to make (default: models/NAME)')
  .option('--revision <revision>', 'branch, tag or commit', 'main')
  .option('--endpoint <url>', 'of the hub or a mirror (default: HF_ENDPOINT, or https://huggingface.co)')
  .action(async (repository: string, folder: string | undefined, options: PullCommandOptions) => {
    const { modelPull } = await import('./commands/model/pull.ts')
    process.exitCode = await modelPull(repository, folder, options)
  })

model
  .command('synth')
  .description('write a checkpoint of random weights, in the shapes and the layout of a published one')
  .argument('<dir>', 'folder to make')
  .addOption(new Option('--preset <name>', 'what it is shaped as').choices(presetNames).makeOptionMandatory())
  .addOption(new Option('--dtype <dtype>', 'of all weights').choices(['f32', 'f16', 'bf16']).default('f32'))
  .option('--depth <n>', "the transformer's blocks (published: 28)", positiveInteger)
  .option('--text-depth <n>', "the text encoder's layers (published: 24)", positiveInteger)
  .option('--seed <n>', 'decides every weight', wholeNumber, 1)
  .action(async (folder: string, options: SynthOptions) => {
    const { modelSynth } = await import('./commands/model/synth.ts')
    await modelSynth(folder, options)
  })

model
  .command('check')
  .description('tell what a checkpoint is, whether it is complete, and what it needs in memory')
  .argument('<dir>', 'checkpoint')
  .option('--json', 'for machines; what has no bound is the string "Infinity"')
  .action(async (folder: string, options: { json?: true }) => {
    const { modelCheck } = await import('./commands/model/check.ts')
    process.exitCode = await modelCheck(readConfig(process.env), folder, options)
  })

const bits = (flags: string, what: string) =>
  new Option(`${flags} <type>`, `store ${what} in`).choices(['int4', 'int8'])
model
  .command('quantize')
  .description('write a checkpoint anew with weights of 4 or 8 bits, and tell what that costs')
  .argument('<dir>', 'checkpoint')
  .argument('<out>', 'folder to make')
  .addOption(bits('--text-encoder', "the text encoder's layers"))
  .addOption(bits('--transformer', "the layers of the transformer's blocks"))
  .option('--block <n>', `weights that share a scale: ${blockSizes.join(', ')}`, blockSize, 32)
  .option('--report', 'run both checkpoints and compare what comes out (by default up to 256 MiB)')
  .option('--no-report', 'do not')
  .action(async (folder: string, out: string, options: QuantizeOptions) => {
    const { modelQuantize } = await import('./commands/model/quantize.ts')
    await modelQuantize(readConfig(process.env), folder, out, options)
  })

model
  .command('export')
  .description('write a checkpoint of a fine-tuning job as a model that can be served, or as an adapter')
  .argument('<job>', 'folder that "atelier finetune" made')
  .argument('<out>', 'folder to make')
  .option('--checkpoint <name>', 'below checkpoints/ in the job (default: the last)')
  .addOption(new Option('--form <form>', 'of a LoRA').choices(['model', 'adapter']).default('model'))
  .action(async (job: string, out: string, options: ExportOptions) => {
    const { modelExport } = await import('./commands/model/export.ts')
    await modelExport(readConfig(process.env), job, out, options)
  })

try {
  await program.parseAsync()
} catch (error) {
  console.error(error instanceof ConfigError ? error.message : describe(error))
  // At once: what was started beside what failed, such as a device process, ends with this one.
  process.exit(error instanceof ConfigError ? 2 : 1)
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return `atelier: ${String(error)}`
  return process.env['NODE_DEBUG'] ? `atelier: ${error.stack ?? error.message}` : `atelier: ${error.message}`
}

function wholeNumber(text: string): number {
  const value = Number(text)
  if (/^\d+$/.test(text) && Number.isSafeInteger(value)) return value
  throw new InvalidArgumentError('Expected a whole number.')
}

/** The bounds are those of the API. */
function guidanceScale(text: string): number {
  const value = Number(text)
  if (text.trim() !== '' && value >= 0 && value <= 20) return value
  throw new InvalidArgumentError('Expected a number from 0 to 20.')
}

function positiveInteger(text: string): number {
  const value = wholeNumber(text)
  if (value > 0) return value
  throw new InvalidArgumentError('Expected a whole number above 0.')
}

function blockSize(text: string): number {
  const value = wholeNumber(text)
  if (blockSizes.includes(value)) return value
  throw new InvalidArgumentError(`Expected one of ${blockSizes.join(', ')}.`)
}
