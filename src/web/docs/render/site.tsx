/** All pages of the reference, made when the pages are built: nothing of it has to be computed by a browser. */
import type { ComponentChildren } from 'preact'
import { renderToStaticMarkup } from 'preact-render-to-string'
import { readContract, type Contract } from './contract.ts'
import { Layout } from './layout.tsx'
import { renderMarkdown, type Section } from './markdown.ts'
import { proseWith } from './prose.tsx'
import { TagPage, titleOf } from './reference.tsx'

export interface Sources {
  readonly contract: string
  /** Files by their path in the repository. */
  readonly documents: Readonly<Record<string, string>>
}

export interface Site {
  /** HTML by where it is served, without a slash in front. */
  readonly pages: Readonly<Record<string, string>>
  readonly search: readonly Searchable[]
}

/** What the search finds: a page, a part of one, or an operation. */
export interface Searchable {
  readonly id: number
  readonly title: string
  readonly page: string
  readonly text: string
  /** From where the service is. */
  readonly href: string
}

/** In the order in which one reads them. */
const guides = ['first-picture', 'streaming', 'webhooks', 'fine-tuning', 'gpu', 'scaling-out']

/** Where each document is served. */
export const places: Readonly<Record<string, string>> = {
  ...Object.fromEntries(guides.map((name) => [`docs/guides/${name}.md`, `docs/${name}`])),
  'README.md': 'docs/readme',
  'docs/operations.md': 'docs/operations',
  'ARCHITECTURE.md': 'docs/architecture',
  'CHANGELOG.md': 'docs/changelog',
}

interface Page {
  readonly path: string
  readonly title: string
  readonly group: string
  readonly sections: readonly Section[]
  readonly content: () => ComponentChildren
}

export function renderSite({ contract: yaml, documents }: Sources): Site {
  const contract = readContract(yaml)
  const written = Object.entries(places).map(([file, path]) =>
    documentPage(file, path, documents[file] ?? ''),
  )
  const [reading, operating] = [written.slice(0, guides.length), written.slice(guides.length)]
  const pages = [
    overview(contract),
    ...reading,
    ...operating,
    ...contract.tags.map((tag) => tagPage(contract, tag)),
  ]
  const search = pages.flatMap(({ path, title, sections }) =>
    sections.map((section) => ({
      title: section.title,
      page: title,
      text: section.text,
      href: section.depth === 1 ? path : `${path}#${section.id}`,
    })),
  )
  return {
    pages: Object.fromEntries(pages.map((page, index) => [page.path, htmlOf(page, index, pages)])),
    search: search.map((each, id) => ({ id, ...each })),
  }
}

function htmlOf(page: Page, index: number, pages: readonly Page[]): string {
  const root = rootOf(page.path)
  const groups = [...new Set(pages.map(({ group }) => group))]
  const neighbour = (at: number) => {
    const other = pages[at]
    return other && { title: other.title, href: `${root}${other.path}` }
  }
  const html = renderToStaticMarkup(
    <Layout
      title={page.title}
      root={root}
      nav={groups.map((title) => ({
        title,
        links: pages
          .filter(({ group }) => group === title)
          .map((other) => ({
            title: other.title,
            href: `${root}${other.path}`,
            isCurrent: other === page,
            sections: other.sections.filter(({ depth }) => depth === 2),
          })),
      }))}
      previous={neighbour(index - 1)}
      next={neighbour(index + 1)}
    >
      {page.content()}
    </Layout>,
  )
  return `<!doctype html>\n${html}`
}

const rootOf = (path: string): string => '../'.repeat(path.split('/').length - 1) || './'

function documentPage(file: string, path: string, text: string): Page {
  const { html, sections } = renderMarkdown(text, linkFrom(file, path))
  return {
    path,
    title: file === 'README.md' ? 'README' : (sections[0]?.title ?? file),
    group: file.startsWith('docs/guides/') ? 'Guides' : 'Running it',
    sections,
    // Our own text, rendered when the pages are built.
    // oxlint-disable-next-line react/no-danger
    content: () => <div class="prose" dangerouslySetInnerHTML={{ __html: html }} />,
  }
}

/** A link between files of the repository, as one between pages; what is not served is no link. */
function linkFrom(file: string, path: string): (href: string) => string | undefined {
  return (href) => {
    if (/^(?:https?:|#)/.test(href)) return href
    const [target = '', anchor] = href.split('#')
    const { pathname } = new URL(target, `file:///${file}`)
    const place = pathname === '/openapi.yaml' ? 'openapi.yaml' : places[pathname.slice(1)]
    return place && `${rootOf(path)}${place}${anchor === undefined ? '' : `#${anchor}`}`
  }
}

function overview(contract: Contract): Page {
  const Prose = proseWith((href) => href)
  return {
    path: 'docs',
    title: 'Overview',
    group: 'Reference',
    sections: [{ id: 'main', title: 'Overview', depth: 1, text: contract.description }],
    content: () => (
      <>
        <h1>Reference</h1>
        <p class="lead">
          Guides for what one does first, and every operation of the API. The whole contract is{' '}
          <a href="./openapi.yaml">openapi.yaml</a>, against which requests are checked.
        </p>
        <ul class="cards">
          {guides.map((name) => (
            <li key={name}>
              <a href={`./docs/${name}`}>
                <strong>{introductions[name]?.[0]}</strong>
                <span>{introductions[name]?.[1]}</span>
              </a>
            </li>
          ))}
        </ul>
        <h2 id="api">The API</h2>
        <ul class="tags">
          {contract.tags.map(({ name, description, operations }) => (
            <li key={name}>
              <a href={`./docs/api/${name}`}>{titleOf(name)}</a>
              <span>{description}</span>
              <small>{operations.length === 1 ? '1 operation' : `${operations.length} operations`}</small>
            </li>
          ))}
        </ul>
        <h2 id="rules">What holds for all of it</h2>
        <Prose text={contract.description} />
      </>
    ),
  }
}

const introductions: Readonly<Record<string, readonly [title: string, about: string]>> = {
  'first-picture': ['First picture', 'From a clone to a picture, and to the same one again.'],
  streaming: ['Streaming', 'Watch a picture being made, and take a broken connection up again.'],
  webhooks: ['Webhooks', 'Be told when it is done, signed, however long that takes.'],
  'fine-tuning': ['Fine-tuning', 'Teach the model your own subject while it serves.'],
  gpu: ['A GPU', 'CUDA and WebGPU, precision, memory, and what is not known yet.'],
  'scaling-out': ['Scaling out', 'Many processes, many machines, Kubernetes.'],
}

function tagPage(contract: Contract, tag: Contract['tags'][number]): Page {
  const path = `docs/api/${tag.name}`
  const root = rootOf(path)
  const linkTo = (schema: string) => {
    const home = contract.homeOf(schema)
    return home && `${home === tag.name ? '' : `${root}docs/api/${home}`}#${schema}`
  }
  return {
    path,
    title: titleOf(tag.name),
    group: 'API',
    sections: [
      { id: 'main', title: titleOf(tag.name), depth: 1, text: tag.description },
      ...tag.operations.map(({ operationId, summary, description = '', method, path }) => ({
        id: operationId,
        title: summary.replace(/\.$/, ''),
        depth: 2,
        text: `${method.toUpperCase()} ${path} ${operationId} ${description}`,
      })),
      ...tag.schemas.map((name) => ({
        id: name,
        title: name,
        depth: 3,
        text: `${contract.schema(name).description ?? ''} ${Object.keys(contract.schema(name).properties ?? {}).join(' ')}`,
      })),
    ],
    content: () => (
      <TagPage tag={tag} contract={contract} linkTo={linkTo} Prose={proseWith((href) => href)} />
    ),
  }
}
