/** The only entry: reads the command line and the environment, and hands over to one command. */
import { enableCompileCache } from 'node:module'
import { fileURLToPath } from 'node:url'
import { Command } from 'commander'
import packageJson from '../package.json' with { type: 'json' }
import { ConfigError, describeSettings, readConfig } from './config.ts'

// Compiled sources are kept for the next start, of this process and of the device processes that inherit the variable.
process.env['NODE_COMPILE_CACHE'] ??= fileURLToPath(
  new URL('../node_modules/.cache/compiled', import.meta.url),
)
enableCompileCache(process.env['NODE_COMPILE_CACHE'])

// bin/atelier.mjs holds this channel open when the system's Node is not the pinned one; it closes however that process ends.
if (process.channel) process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'))

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
  .command('status')
  .description('tell what the running server serves and how much waits')
  .action(async () => {
    const { status } = await import('./commands/status.ts')
    await status(readConfig(process.env))
  })

program
  .command('parity')
  .description('hold every stage of the pipeline against reference tensors')
  .argument('<dir>', 'folder with checkpoint/, golden.safetensors and golden.json')
  .option('--out <file>', "also write every computed tensor, under the references' names, as safetensors")
  .action(async (folder: string, options: { out?: string }) => {
    const { parity } = await import('./commands/parity.ts')
    process.exitCode = await parity(readConfig(process.env), folder, options)
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
