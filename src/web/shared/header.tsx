/** The head of every page: the way to the others, the key, the theme and the shortcuts. */
import type { JSX } from 'preact'
import { IconButton } from './button.tsx'
import { Mark } from './icons.tsx'
import { apiKey, askForKey, serviceUrl } from './session.ts'
import { isListingShortcuts } from './shortcuts.tsx'
import { nextTheme, theme } from './theme.ts'

/** Addresses are those from where the service is, so that pages find each other behind a proxy that serves them under a path. */
export const pages = [
  { name: 'Playground', href: '' },
  { name: 'Studio', href: 'studio' },
  { name: 'Reference', href: 'docs' },
] as const

export type PageName = (typeof pages)[number]['name']

const themeIcons = { system: 'system', light: 'sun', dark: 'moon' } as const

export function Header({ page }: { readonly page: PageName }): JSX.Element {
  return (
    <header class="header">
      <a class="header__brand" href={`${serviceUrl}/`} aria-label="Atelier">
        <Mark />
        <span>Atelier</span>
      </a>
      <nav class="header__pages" aria-label="Pages">
        {pages.map(({ name, href }) => (
          <a
            key={name}
            class="header__page"
            href={`${serviceUrl}/${href}`}
            {...(name === page && { 'aria-current': 'page' })}
          >
            {name}
          </a>
        ))}
      </nav>
      <div class="header__tools">
        <IconButton
          icon="key"
          label={apiKey.value === '' ? 'Enter a key' : 'Your key'}
          aria-pressed={apiKey.value !== ''}
          onClick={askForKey}
        />
        <IconButton icon={themeIcons[theme.value]} label={`Theme: ${theme.value}`} onClick={nextTheme} />
        <IconButton
          icon="keyboard"
          label="Keyboard shortcuts"
          onClick={() => (isListingShortcuts.value = true)}
        />
      </div>
    </header>
  )
}
