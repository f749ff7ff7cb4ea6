/** Markdown inside components, where the page it is on decides where links lead. */
import type { JSX } from 'preact'
import { codeBlock, renderMarkdown } from './markdown.ts'

export type Prose = (props: { readonly text: string }) => JSX.Element

export const proseWith = (link: (href: string) => string | undefined): Prose =>
  function Prose({ text }) {
    // Our own texts, rendered when the pages are built.
    // oxlint-disable-next-line react/no-danger
    return <div class="prose" dangerouslySetInnerHTML={{ __html: renderMarkdown(text, link).html }} />
  }

export function Code({ text, language }: { readonly text: string; readonly language: string }): JSX.Element {
  // oxlint-disable-next-line react/no-danger
  return <div class="code" dangerouslySetInnerHTML={{ __html: codeBlock(text, language) }} />
}
