/** The icons, drawn on a grid of 16. They say nothing by themselves: whoever uses one names it in text. */
import type { JSX } from 'preact'

const shapes = {
  chart: 'M2.5 2.5v11h11M5 10.5l2.6-3.4 2.2 1.8L13 5',
  check: 'M3 8.5l3.2 3.2L13 4.8',
  chevron: 'M4 6l4 4 4-4',
  close: 'M4 4l8 8M12 4l-8 8',
  copy: 'M5.5 5.5v-2a1 1 0 0 1 1-1h6a1 1 0 0 1 1 1v6a1 1 0 0 1-1 1h-2M3.5 5.5h6a1 1 0 0 1 1 1v6a1 1 0 0 1-1 1h-6a1 1 0 0 1-1-1v-6a1 1 0 0 1 1-1z',
  device:
    'M4.5 4.5h7v7h-7zM6.5 2.2v2.3M9.5 2.2v2.3M6.5 11.5v2.3M9.5 11.5v2.3M2.2 6.5h2.3M2.2 9.5h2.3M11.5 6.5h2.3M11.5 9.5h2.3',
  dice: 'M4 2.5h8A1.5 1.5 0 0 1 13.5 4v8a1.5 1.5 0 0 1-1.5 1.5H4A1.5 1.5 0 0 1 2.5 12V4A1.5 1.5 0 0 1 4 2.5zM5.6 5.6h.01M10.4 5.6h.01M8 8h.01M5.6 10.4h.01M10.4 10.4h.01',
  download: 'M8 2.5v7.5M4.8 7L8 10.2 11.2 7M2.5 13.5h11',
  image:
    'M3.5 2.5h9a1 1 0 0 1 1 1v9a1 1 0 0 1-1 1h-9a1 1 0 0 1-1-1v-9a1 1 0 0 1 1-1zM2.5 11l3.2-3.2L9 11M8.4 10.4l1.8-1.8 3.3 3.2M10.4 5.7h.01',
  images:
    'M5.5 2.5h7a1 1 0 0 1 1 1v7a1 1 0 0 1-1 1h-7a1 1 0 0 1-1-1v-7a1 1 0 0 1 1-1zM4.6 9.6L7.4 7l3.9 4.4M10.6 5.4h.01M11.3 13.5H3.5a1 1 0 0 1-1-1V4.8',
  key: 'M9.2 6.8l-6.7 6.7M4.3 11.7l1.6 1.6M12.2 3.8a2.6 2.6 0 1 1-3.7 3.7 2.6 2.6 0 0 1 3.7-3.7z',
  keyboard:
    'M3 4h10a1 1 0 0 1 1 1v6a1 1 0 0 1-1 1H3a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1zM4.6 6.6h.01M7 6.6h.01M9.4 6.6h.01M11.6 6.6h.01M5 9.4h6',
  lock: 'M4.5 7.2h7a1 1 0 0 1 1 1v4.3a1 1 0 0 1-1 1h-7a1 1 0 0 1-1-1V8.2a1 1 0 0 1 1-1zM5.5 7.2V5a2.5 2.5 0 0 1 5 0v2.2',
  moon: 'M13.2 9.6A5.6 5.6 0 0 1 6.4 2.8a5.6 5.6 0 1 0 6.8 6.8z',
  next: 'M6 3.5L10.5 8 6 12.5',
  pause: 'M5.5 3.5v9M10.5 3.5v9',
  pencil: 'M10.6 3l2.4 2.4-7.4 7.4-3 .6.6-3z',
  play: 'M5 3.2l7.5 4.8L5 12.8z',
  plus: 'M8 3v10M3 8h10',
  previous: 'M10 3.5L5.5 8l4.5 4.5',
  refresh: 'M13 8a5 5 0 1 1-1.6-3.7M13 2.5v3h-3',
  rocket:
    'M6.2 9.8L4.4 8c1-3 3.3-5.2 8.8-5.2 0 5.5-2.2 7.8-5.2 8.8zM5 8.6H2.8L4.6 6M7.4 11v2.2l2.6-1.8M9.8 6.2h.01M4.6 11.4l-1.8 1.8',
  search: 'M7 2.5a4.5 4.5 0 1 1 0 9 4.5 4.5 0 0 1 0-9zM10.4 10.4l3.1 3.1',
  sliders: 'M2.5 5h6M12 5h1.5M10.2 3.3v3.4M2.5 11H4M7.5 11h6M5.8 9.3v3.4',
  spark: 'M8 2.2l1.4 4.4L13.8 8l-4.4 1.4L8 13.8 6.6 9.4 2.2 8l4.4-1.4z',
  stop: 'M4.8 4.3h6.4a.5.5 0 0 1 .5.5v6.4a.5.5 0 0 1-.5.5H4.8a.5.5 0 0 1-.5-.5V4.8a.5.5 0 0 1 .5-.5z',
  sun: 'M8 5.4a2.6 2.6 0 1 1 0 5.2 2.6 2.6 0 0 1 0-5.2zM8 1.5v1.3M8 13.2v1.3M1.5 8h1.3M13.2 8h1.3M3.4 3.4l.9.9M11.7 11.7l.9.9M12.6 3.4l-.9.9M4.3 11.7l-.9.9',
  system: 'M3 3h10a1 1 0 0 1 1 1v6a1 1 0 0 1-1 1H3a1 1 0 0 1-1-1V4a1 1 0 0 1 1-1zM6 13.5h4M8 11v2.5',
  trash: 'M2.8 4.2h10.4M6.3 4.2V2.8h3.4v1.4M4.2 4.2l.6 8.4a1 1 0 0 0 1 .9h4.4a1 1 0 0 0 1-.9l.6-8.4',
  unlock:
    'M4.5 7.2h7a1 1 0 0 1 1 1v4.3a1 1 0 0 1-1 1h-7a1 1 0 0 1-1-1V8.2a1 1 0 0 1 1-1zM5.5 7.2V5a2.5 2.5 0 0 1 4.9-.7',
  upload: 'M8 10V2.8M4.8 5.8L8 2.6l3.2 3.2M2.5 13.5h11',
  warning: 'M8 2.6l6 10.6H2zM8 6.6v3M8 11.4h.01',
} as const

export type IconName = keyof typeof shapes

export function Icon({ name, size = 16 }: { readonly name: IconName; readonly size?: number }): JSX.Element {
  return (
    <svg
      aria-hidden="true"
      width={size}
      height={size}
      viewBox="0 0 16 16"
      fill="none"
      stroke="currentColor"
      stroke-width="1.4"
      stroke-linecap="round"
      stroke-linejoin="round"
    >
      <path d={shapes[name]} />
    </svg>
  )
}

/** Atelier's mark: a picture that leans on an easel. */
export function Mark(): JSX.Element {
  return (
    <svg aria-hidden="true" width="22" height="22" viewBox="0 0 22 22" fill="none">
      <rect x="1" y="1" width="20" height="20" rx="6" fill="var(--primary)" />
      <path
        d="M6.2 15.8L11 5.4l4.8 10.4M8.1 12.2h5.8"
        stroke="var(--on-primary)"
        stroke-width="1.8"
        stroke-linecap="round"
        stroke-linejoin="round"
      />
    </svg>
  )
}
