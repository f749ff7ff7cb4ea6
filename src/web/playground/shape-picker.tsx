/** The shapes that a model can draw, each drawn to scale. */
import { useSignal } from '@preact/signals'
import type { JSX } from 'preact'
import { useId } from 'preact/hooks'
import type { SchemaModel } from '../../sdk/index.ts'
import { Button } from '../shared/button.tsx'
import { change } from './draft.ts'
import { bucketsOf, familiarBuckets, ratioOf, writeSize, type Size } from './sizes.ts'

const longestSide = 26

export function ShapePicker({
  model,
  bucket,
}: {
  readonly model: SchemaModel
  readonly bucket: Size
}): JSX.Element {
  const name = useId()
  const showsAll = useSignal(false)
  const all = bucketsOf(model)
  const familiar = familiarBuckets(model)
  const chosen = writeSize(bucket)
  const isFamiliar = familiar.some((size) => writeSize(size) === chosen)
  const shown = showsAll.value || !isFamiliar ? all : familiar
  return (
    <fieldset class="field">
      <legend class="visually-hidden">Shape</legend>
      <div class="field__head">
        <span class="field__label">Shape</span>
        <span class="field__value">
          {ratioOf(bucket)}, made at {bucket.width} × {bucket.height}
        </span>
      </div>
      <div class="shapes">
        {shown.map((size) => (
          <Shape
            key={writeSize(size)}
            name={name}
            size={size}
            isChosen={writeSize(size) === chosen}
            onChoose={() => change({ bucket: writeSize(size) })}
          />
        ))}
      </div>
      {isFamiliar && familiar.length < all.length && (
        <Button
          size="s"
          kind="quiet"
          aria-expanded={showsAll.value}
          onClick={() => (showsAll.value = !showsAll.value)}
        >
          {showsAll.value ? 'Fewer shapes' : `All ${all.length} shapes`}
        </Button>
      )}
    </fieldset>
  )
}

interface ShapeProps {
  readonly name: string
  readonly size: Size
  readonly isChosen: boolean
  readonly onChoose: () => void
}

function Shape({ name, size, isChosen, onChoose }: ShapeProps): JSX.Element {
  const { width, height } = size
  const scale = longestSide / Math.max(width, height)
  const ratio = ratioOf(size)
  return (
    <label class="shapes__shape" title={`${width} × ${height}`}>
      <input
        type="radio"
        name={name}
        value={writeSize(size)}
        checked={isChosen}
        aria-label={`${ratio}, ${width} by ${height} pixels`}
        onChange={onChoose}
      />
      <span>
        <svg aria-hidden="true" width="28" height="28" viewBox="0 0 28 28">
          <rect
            x={14 - (width * scale) / 2}
            y={14 - (height * scale) / 2}
            width={width * scale}
            height={height * scale}
            rx="2.5"
            fill="none"
            stroke="currentColor"
            stroke-width="1.5"
          />
        </svg>
        {ratio}
      </span>
    </label>
  )
}
