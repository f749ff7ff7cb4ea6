/** The keyboard: what keys do on this page, one listener for all of them, and the dialog that lists them. */
import { signal } from '@preact/signals'
import type { JSX } from 'preact'
import { useEffect } from 'preact/hooks'
import { Dialog } from './dialog.tsx'

export interface Shortcut {
  /** As `KeyboardEvent.key` has it; `mod+` in front means Ctrl, or Command on a Mac. */
  readonly keys: string
  readonly does: string
  readonly run: () => void
}

const isMac = /Mac|iP(?:hone|ad)/.test(navigator.platform)

const registered = signal<readonly (readonly Shortcut[])[]>([])
export const isListingShortcuts = signal(false)

/** For as long as the component is there. `shortcuts` must not change. */
export function useShortcuts(shortcuts: readonly Shortcut[]): void {
  useEffect(() => {
    registered.value = [...registered.peek(), shortcuts]
    return () => {
      registered.value = registered.peek().filter((each) => each !== shortcuts)
    }
  }, [shortcuts])
}

const own: readonly Shortcut[] = [
  { keys: '?', does: 'List the shortcuts', run: () => (isListingShortcuts.value = true) },
]

const all = () => [...registered.value.flat(), ...own]

/** Letters belong to whatever is typed into; combinations with Ctrl or Command work everywhere. */
function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false
  return target.matches(
    'textarea, select, [contenteditable], input:not([type=radio], [type=checkbox], [type=range])',
  )
}

const movesByArrows = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && target.matches('input[type=radio], input[type=range]')

export function listenForShortcuts(): void {
  window.addEventListener('keydown', (event) => {
    if (event.defaultPrevented || event.altKey || event.isComposing) return
    const mod = isMac ? event.metaKey : event.ctrlKey
    if (!mod && (event.metaKey || event.ctrlKey || isTyping(event.target))) return
    if (document.querySelector('dialog[open]')) return
    if (event.key.startsWith('Arrow') && movesByArrows(event.target)) return
    const keys = `${mod ? 'mod+' : ''}${event.key}`
    const shortcut = all().find((each) => each.keys === keys)
    if (!shortcut) return
    event.preventDefault()
    shortcut.run()
  })
}

const names: Readonly<Record<string, string>> = {
  mod: isMac ? '⌘' : 'Ctrl',
  Enter: '↵',
  Escape: 'Esc',
  ArrowLeft: '←',
  ArrowRight: '→',
  ArrowUp: '↑',
  ArrowDown: '↓',
}

export function Keys({ keys }: { readonly keys: string }): JSX.Element {
  return (
    <>
      {keys.split('+').map((key) => (
        <kbd key={key}>{names[key] ?? key}</kbd>
      ))}
    </>
  )
}

export function ShortcutsDialog(): JSX.Element {
  return (
    <Dialog
      title="Keyboard shortcuts"
      open={isListingShortcuts.value}
      onClose={() => (isListingShortcuts.value = false)}
    >
      <dl class="key-list">
        {all().map(({ keys, does }) => [
          <dt key={`${keys} does`}>{does}</dt>,
          <dd key={keys}>
            <Keys keys={keys} />
          </dd>,
        ])}
      </dl>
    </Dialog>
  )
}
