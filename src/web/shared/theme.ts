/** Light, dark or as the system has it; kept in this browser. */
import { effect, signal } from '@preact/signals'

export const themes = ['system', 'light', 'dark'] as const
export type Theme = (typeof themes)[number]

const key = 'atelier.theme'

const isTheme = (text: string | null): text is Theme => themes.some((theme) => theme === text)

const kept = localStorage.getItem(key)
export const theme = signal<Theme>(isTheme(kept) ? kept : 'system')

effect(() => {
  const chosen = theme.value
  if (chosen === 'system') {
    delete document.documentElement.dataset['theme']
    localStorage.removeItem(key)
  } else {
    document.documentElement.dataset['theme'] = chosen
    localStorage.setItem(key, chosen)
  }
})

export function nextTheme(): void {
  const next = themes[(themes.indexOf(theme.value) + 1) % themes.length]
  if (next) theme.value = next
}
