/** One picture of a generation: what is there of it so far. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import type { SchemaGeneration } from '../../sdk/index.ts'
import { Icon } from '../shared/icons.tsx'
import { atelier } from '../shared/session.ts'
import { liveOf } from './following.ts'
import { learn } from './history.ts'

export interface PictureProps {
  readonly generation: SchemaGeneration
  readonly index: number
  readonly size?: 'full' | 'small'
}

export function Picture({ generation, index, size = 'full' }: PictureProps): JSX.Element {
  const { parameters, images } = generation
  const image = images[index]
  const live = liveOf(generation.id).value.pictures[index]
  const isBroken = useSignal('')
  if (image && isBroken.value !== image.url) {
    return (
      <img
        class="picture"
        src={image.url}
        width={image.width}
        height={image.height}
        alt={size === 'full' ? parameters.prompt : ''}
        loading={size === 'full' ? 'eager' : 'lazy'}
        decoding="async"
        onError={() => {
          isBroken.value = image.url
          // Its address is good for a while only; whoever may see it is told a new one.
          atelier.value.generations
            .retrieve(generation.id)
            .then((news) => learn([news]))
            .catch(() => undefined)
        }}
      />
    )
  }
  if (image) return <Blank icon="image" />
  if (live?.previewUrl === undefined) return <Blank icon="spark" isWaiting />
  return (
    <img
      class="picture picture--preview"
      src={live.previewUrl}
      alt={size === 'full' ? `Preview: ${parameters.prompt}` : ''}
    />
  )
}

function Blank({
  icon,
  isWaiting,
}: {
  readonly icon: 'image' | 'spark'
  readonly isWaiting?: true
}): JSX.Element {
  return (
    <span class="picture picture--blank" data-waiting={isWaiting}>
      <Icon name={icon} size={20} />
    </span>
  )
}
