/** A few rendered icons for the tests here. */
import { fileURLToPath } from 'node:url'
import { Renders } from '../../../recipes/emoji/render.ts'
import { vocabulary, type Item } from '../../../recipes/emoji/vocabulary.ts'

export function itemCalled(name: string): Item {
  const found = vocabulary.find((item) => item.name === name)
  if (!found) throw new Error(`no item is called ${name}`)
  return found
}

const names = [
  'red apple',
  'green apple',
  'dog face',
  'cat face',
  'face with tears of joy',
  'angry face',
  'airplane',
  'rocket',
  'grapes',
  'thumbs up',
  'umbrella',
  'red circle',
  'pencil',
  'octopus',
]

/** Kept from run to run: their names change with the code that makes them. */
const cache = fileURLToPath(new URL('../../../node_modules/.cache/emoji', import.meta.url))

export const fewRenders = (): Promise<Renders> => Renders.open(cache, names.map(itemCalled))
