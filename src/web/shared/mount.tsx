/** Puts a page together: its head, what it is about, and what may lie above it. */
import './tokens.css'
import './base.css'
import './components.css'
import { render, type ComponentChildren } from 'preact'
import { Header, type PageName } from './header.tsx'
import { KeyDialog } from './key-dialog.tsx'
import { listenForShortcuts, ShortcutsDialog } from './shortcuts.tsx'
import { Toasts } from './toast.tsx'

/** Around a page whose content came with its HTML: a head where it says `#frame`, and whatever else is for a place in it. */
export function mountAround(page: PageName, parts: Readonly<Record<string, ComponentChildren>>): void {
  listenForShortcuts()
  mountPart(
    '#frame',
    <>
      <SkipLink />
      <Header page={page} />
      <Overlays />
    </>,
  )
  for (const [place, part] of Object.entries(parts)) mountPart(place, part)
}

function mountPart(place: string, part: ComponentChildren): void {
  const element = document.querySelector(place)
  if (element) render(part, element)
}

export function mountPage(page: PageName, content: ComponentChildren): void {
  listenForShortcuts()
  render(
    <>
      <SkipLink />
      <Header page={page} />
      <main id="main" tabIndex={-1}>
        {content}
      </main>
      <Overlays />
    </>,
    document.body,
  )
}

const SkipLink = () => (
  <a class="skip-link visually-hidden" href="#main">
    Skip to the content
  </a>
)

const Overlays = () => (
  <>
    <Toasts />
    <KeyDialog />
    <ShortcutsDialog />
  </>
)
