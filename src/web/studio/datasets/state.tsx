/** How a dataset stands, in a word. */
import type { JSX } from 'preact'
import type { SchemaDataset } from '../../../sdk/index.ts'
import { Chip, type Tone } from '../parts.tsx'

const looks: Readonly<Record<SchemaDataset['state'], readonly [string, Tone]>> = {
  receiving: ['Arriving', 'accent'],
  validating: ['Being checked', 'accent'],
  ready: ['Ready', 'good'],
  failed: ['Failed', 'bad'],
}

export function DatasetState({ state }: Pick<SchemaDataset, 'state'>): JSX.Element {
  const [word, tone] = looks[state]
  return <Chip tone={tone}>{word}</Chip>
}

export const isComing = ({ state }: Pick<SchemaDataset, 'state'>): boolean =>
  state === 'receiving' || state === 'validating'
