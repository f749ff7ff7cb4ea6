/** `node recipes/emoji/make-suite.ts`: writes the default model's suite for `atelier evaluate`, from a seed. */
import { resolve } from 'node:path'
import { Command, InvalidArgumentError } from 'commander'
import { writeSuite } from '../../src/evaluation/suite-folder.ts'
import { defaultCache, Renders } from './render.ts'
import { makeSuite, type SuiteOptions } from './suite.ts'

const whole = (text: string): number => {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0) throw new InvalidArgumentError('expected a whole number.')
  return value
}

await new Command('node recipes/emoji/make-suite.ts')
  .description('Writes prompts, references and statistics of renders to evaluate a model of emoji by.')
  .requiredOption('--out <folder>', 'is made where there is none')
  .option('--seed <n>', 'decides all of it', whole, 0)
  .option('--named <n>', 'prompts of one large thing', whole, 300)
  .option('--held-out <n>', 'prompts of held-out compositions', whole, 200)
  .option('--renders <n>', 'pictures that the statistics are taken from', whole, 4000)
  .option('--size <pixels>', 'side of the pictures', whole, 128)
  .option('--cache <folder>', 'where rendered icons are kept', defaultCache)
  .showHelpAfterError()
  .action(
    async ({ out, cache, ...options }: SuiteOptions & { readonly out: string; readonly cache: string }) => {
      await using renders = await Renders.open(cache)
      const suite = await makeSuite(renders, options)
      await writeSuite(out, suite)
      const { renders: statistics } = suite.references!
      const perfect = statistics!.perfect
      console.log(
        `${suite.prompts.length} prompts in ${resolve(out)}; ${perfect.count} other renders are at ${perfect.distance.toPrecision(3)} from the ${options.renders}`,
      )
    },
  )
  .parseAsync()
