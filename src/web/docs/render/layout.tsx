/** What is around every page of the reference: its head, the way to the others, and what is on it. */
import type { ComponentChildren, JSX } from 'preact'

export interface NavGroup {
  readonly title: string
  readonly links: readonly NavLink[]
}

export interface NavLink {
  readonly title: string
  readonly href: string
  readonly isCurrent: boolean
  /** What is on it, where it is the page itself. */
  readonly sections: readonly { readonly id: string; readonly title: string }[]
}

export interface LayoutProps {
  readonly title: string
  /** From this page to where the service is: `./` or `../`. */
  readonly root: string
  readonly nav: readonly NavGroup[]
  readonly previous: Neighbour | undefined
  readonly next: Neighbour | undefined
  readonly children: ComponentChildren
}

interface Neighbour {
  readonly title: string
  readonly href: string
}

export function Layout({ title, root, nav, previous, next, children }: LayoutProps): JSX.Element {
  return (
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <title>{`${title} · Atelier`}</title>
        <link rel="icon" href={`${root}shared/icon.svg`} type="image/svg+xml" />
        <script type="module" src={`${root}docs/main.tsx`} />
      </head>
      <body>
        <div id="frame" />
        <div class="docs">
          <div class="docs__side">
            <div id="search" />
            <button class="button docs__contents" type="button" popovertarget="contents">
              Contents
            </button>
            <nav id="contents" class="docs__nav" popover="auto" aria-label="Contents">
              {nav.map((group) => (
                <Group key={group.title} {...group} />
              ))}
            </nav>
          </div>
          <main id="main" class="docs__main" tabIndex={-1}>
            <article class="prose">{children}</article>
            <nav class="docs__around" aria-label="Before and after">
              {previous && (
                <a href={previous.href} rel="prev">
                  <small>Before</small>
                  {previous.title}
                </a>
              )}
              {next && (
                <a href={next.href} rel="next">
                  <small>Next</small>
                  {next.title}
                </a>
              )}
            </nav>
          </main>
        </div>
      </body>
    </html>
  )
}

function Group({ title, links }: NavGroup): JSX.Element {
  return (
    <>
      <p class="docs__group">{title}</p>
      <ul>
        {links.map(({ title, href, isCurrent, sections }) => (
          <li key={href}>
            <a href={href} {...(isCurrent && { 'aria-current': 'page' })}>
              {title}
            </a>
            {isCurrent && sections.length > 0 && (
              <ul>
                {sections.map((section) => (
                  <li key={section.id}>
                    <a href={`#${section.id}`}>{section.title}</a>
                  </li>
                ))}
              </ul>
            )}
          </li>
        ))}
      </ul>
    </>
  )
}
