/** Short words on what was done, read out by screen readers, gone by themselves. What went wrong is a notice instead. */
import { signal } from '@preact/signals'
import type { JSX } from 'preact'
import { Icon } from './icons.tsx'

interface Toast {
  readonly id: number
  readonly text: string
}

const shownMs = 3_500
const toasts = signal<readonly Toast[]>([])
let lastId = 0

export function toast(text: string): void {
  const id = ++lastId
  toasts.value = [...toasts.value.slice(-2), { id, text }]
  setTimeout(() => (toasts.value = toasts.value.filter((each) => each.id !== id)), shownMs)
}

export function Toasts(): JSX.Element {
  return (
    <output class="toasts">
      {toasts.value.map(({ id, text }) => (
        <div key={id} class="toast">
          <Icon name="check" />
          {text}
        </div>
      ))}
    </output>
  )
}
