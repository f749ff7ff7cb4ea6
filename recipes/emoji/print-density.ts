/** `node recipes/emoji/print-density.ts`: concept density of dense captions against plain names, on the same pictures. */
import { Command, InvalidArgumentError } from 'commander'
import { planPicture } from './dataset.ts'
import { conceptDensity } from './density.ts'
import { defaultCache, Renders } from './render.ts'

const whole = (text: string): number => {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 1) throw new InvalidArgumentError('expected a whole number.')
  return value
}

await new Command('node recipes/emoji/print-density.ts')
  .description('Prints the concept density of dense captions and of plain names.')
  .option('--count <n>', 'of how many pictures', whole, 10_000)
  .option('--seed <n>', 'decides which', whole, 1)
  .option('--cache <folder>', 'where rendered icons are kept', defaultCache)
  .action(async ({ count, seed, cache }: { count: number; seed: number; cache: string }) => {
    await using renders = await Renders.open(cache)
    console.log('captions  images  nouns  distinct  valid  valid/distinct  nouns per image')
    for (const captions of ['plain', 'dense'] as const) {
      const said = Array.from(
        { length: count },
        (_, index) =>
          planPicture({ seed, kind: 'compositions', captions, size: 128 }, index, renders).captions[0]!,
      )
      const { nouns, distinctNouns, validNouns, validShare, nounsPerCaption } = conceptDensity(said)
      console.log(
        [
          captions.padEnd(8),
          String(count).padStart(7),
          String(nouns).padStart(6),
          String(distinctNouns).padStart(9),
          String(validNouns).padStart(6),
          `${(100 * validShare).toFixed(1)} %`.padStart(15),
          nounsPerCaption.toFixed(1).padStart(16),
        ].join(' '),
      )
    }
  })
  .parseAsync()
