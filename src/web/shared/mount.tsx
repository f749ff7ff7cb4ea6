/** Puts a page together: its head, what it is about, and what may lie above it. */
import './tokens.css'
import './base.css'
import './components.css'
import { render, type ComponentChildren } from 'preact'
import { Header, type PageName } from './header.tsx'
import { KeyDialog } from './key-dialog.tsx'
import { listenForShortcuts, ShortcutsDialog } from './shortcuts.tsx'
import { Toasts } from './toast.tsx'

export function mountPage(page: PageName, content: ComponentChildren): void {
  listenForShortcuts()
  render(
    <>
      <a class="skip-link visually-hidden" href="#main">
        Skip to the content
      </a>
      <Header page={page} />
      <main id="main" tabIndex={-1}>
        {content}
      </main>
      <Toasts />
      <KeyDialog />
      <ShortcutsDialog />
    </>,
    document.body,
  )
}
