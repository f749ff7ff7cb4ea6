/** How a dataset's pictures fall into the sizes that a model trains at. */
import type { JSX } from 'preact'
import type { SchemaDataset } from '../../../sdk/index.ts'
import { plural } from '../format.ts'
import { Panel } from '../parts.tsx'

export interface BucketsProps {
  readonly buckets: NonNullable<SchemaDataset['buckets']>
  readonly resolution: number
  readonly onResolution: (resolution: number) => void
}

const resolutions = [64, 128, 256, 512, 1024]

export function Buckets({ buckets, resolution, onResolution }: BucketsProps): JSX.Element {
  const most = Math.max(...buckets.map(({ items }) => items))
  return (
    <Panel
      title="Sizes"
      aside={
        <label class="inline-choice">
          trained at
          <select
            class="input"
            value={resolution}
            onChange={(event) => onResolution(Number(event.currentTarget.value))}
          >
            {resolutions.map((each) => (
              <option key={each} value={each}>
                {each} px
              </option>
            ))}
          </select>
        </label>
      }
    >
      <ul class="buckets" aria-label="Pictures of each size">
        {buckets.map(({ width, height, items }) => (
          <li key={`${width}x${height}`} class="buckets__row">
            <span class="buckets__shape" aria-hidden="true">
              <span
                style={{
                  width: `${(18 * width) / Math.max(width, height)}px`,
                  height: `${(18 * height) / Math.max(width, height)}px`,
                }}
              />
            </span>
            <span class="buckets__size">
              {width} × {height}
            </span>
            <span class="buckets__bar" aria-hidden="true">
              <span style={{ width: `${(100 * items) / most}%` }} />
            </span>
            <span class="buckets__count">{plural(items, 'picture')}</span>
          </li>
        ))}
      </ul>
    </Panel>
  )
}
