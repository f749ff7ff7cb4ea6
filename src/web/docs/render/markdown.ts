/** Markdown into HTML: headings with anchors, code coloured by class, and links that lead to where the page is served. */
import hljs from 'highlight.js/lib/core'
import bash from 'highlight.js/lib/languages/bash'
import json from 'highlight.js/lib/languages/json'
import plaintext from 'highlight.js/lib/languages/plaintext'
import typescript from 'highlight.js/lib/languages/typescript'
import { Marked, type Tokens } from 'marked'

for (const [name, language] of Object.entries({ bash, json, plaintext, typescript }))
  hljs.registerLanguage(name, language)

const languages: Readonly<Record<string, string>> = { sh: 'bash', ts: 'typescript', json: 'json' }

export interface Section {
  readonly id: string
  readonly title: string
  readonly depth: number
  /** What it says, for the search. */
  readonly text: string
}

export interface Rendered {
  readonly html: string
  readonly sections: readonly Section[]
}

/** @param link an address as the text has it → as the page needs it; undefined where nothing is served there */
export function renderMarkdown(text: string, link: (href: string) => string | undefined): Rendered {
  const sections: { id: string; title: string; depth: number; text: string }[] = []
  const marked = new Marked({
    renderer: {
      heading({ tokens, depth }: Tokens.Heading) {
        const html = this.parser.parseInline(tokens)
        const title = this.parser.parseInline(tokens, this.parser.textRenderer)
        const id = anchorOf(title)
        if (depth === 1) return `<h1 id="${id}">${html}</h1>\n`
        return `<h${depth} id="${id}">${html}<a class="anchor" href="#${id}" aria-label="Link to ${escapeHtml(title)}">#</a></h${depth}>\n`
      },
      code: ({ text, lang = '' }: Tokens.Code) => {
        const [language = '', word = ''] = lang.split(' ')
        return word === 'output'
          ? `<div class="code" data-output><span class="code__says">answers</span>${codeBlock(text, language)}</div>\n`
          : `<div class="code">${codeBlock(text, language)}</div>\n`
      },
      link({ href, tokens }: Tokens.Link) {
        const html = this.parser.parseInline(tokens)
        const target = link(href)
        return target === undefined ? html : `<a href="${escapeHtml(target)}">${html}</a>`
      },
      // No pictures are served with the pages.
      image: () => '',
      table(token: Tokens.Table) {
        const row = (cells: Tokens.TableCell[], tag: string) =>
          `<tr>${cells.map(({ tokens }) => `<${tag}>${this.parser.parseInline(tokens)}</${tag}>`).join('')}</tr>`
        const body = token.rows.map((cells) => row(cells, 'td')).join('\n')
        return `<div class="table" tabindex="0" role="group" aria-label="Table"><table><thead>${row(token.header, 'th')}</thead><tbody>${body}</tbody></table></div>\n`
      },
    },
  })
  for (const token of marked.lexer(text)) {
    if (token.type === 'heading') {
      const title = plain(token.text as string)
      sections.push({ id: anchorOf(title), title, depth: token.depth as number, text: '' })
    } else if (sections.length > 0) sections[sections.length - 1]!.text += ` ${plain(token.raw)}`
  }
  return { html: marked.parse(text, { async: false }), sections }
}

export function codeBlock(text: string, language: string): string {
  const { value } = hljs.highlight(text, { language: languages[language] ?? 'plaintext' })
  // What is wider than the page is scrolled to, by the keyboard as well.
  return `<pre tabindex="0"><code>${value}</code></pre>`
}

/** As GitHub makes them, so that a link means the same there and here. */
const anchorOf = (title: string): string =>
  title
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
    .trim()
    .replaceAll(' ', '-')

const plain = (markdown: string): string =>
  markdown
    .replaceAll(/^```.*$/gm, '')
    .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replaceAll(/[*`|#>]/g, '')
    .replaceAll(/\s+/g, ' ')
    .trim()

export const escapeHtml = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
