/** `node recipes/emoji/make-dataset.ts`: writes a data set folder, pictures and captions.jsonl, from a seed. */
import { resolve } from 'node:path'
import { Command, InvalidArgumentError, Option } from 'commander'
import { makeDataset, type DatasetOptions } from './dataset.ts'
import { kinds } from './recipes.ts'
import { defaultCache, Renders } from './render.ts'

const whole = (text: string): number => {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0) throw new InvalidArgumentError('expected a whole number.')
  return value
}

await new Command('node recipes/emoji/make-dataset.ts')
  .description('Writes a data set of emoji pictures with captions.')
  .requiredOption('--out <folder>', 'is made where there is none')
  .requiredOption('--count <n>', 'how many pictures', whole)
  .option('--seed <n>', 'decides all of them', whole, 0)
  .addOption(new Option('--kind <kind>', 'what is on them').choices(kinds).default('compositions'))
  .addOption(
    new Option('--captions <how>', 'what is said of them').choices(['dense', 'plain']).default('dense'),
  )
  .option('--size <pixels>', 'side of the square bucket', whole, 128)
  .option('--cache <folder>', 'where rendered icons are kept', defaultCache)
  .showHelpAfterError()
  .action(async ({ cache, ...options }: DatasetOptions & { readonly cache: string }) => {
    await using renders = await Renders.open(cache)
    const start = performance.now()
    await makeDataset(options, renders)
    const seconds = (performance.now() - start) / 1000
    console.log(
      `${options.count} pictures in ${resolve(options.out)}, ${Math.round(options.count / seconds)} a second`,
    )
  })
  .parseAsync()
