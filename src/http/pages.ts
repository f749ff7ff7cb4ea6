/**
 * The pages for people, as Vite built them into dist/web. They hold no data and so need no key: whatever they show they ask of the
 * API, with the key of whoever looks.
 */
import { existsSync, readdirSync } from 'node:fs'
import { join, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import staticFiles from '@fastify/static'
import type { FastifyInstance } from 'fastify'
import type { Links } from './links.ts'

export const builtPages = fileURLToPath(new URL('../../dist/web', import.meta.url))

export interface PagesOptions {
  readonly folder: string
  readonly links: Pick<Links, 'pictureOrigins'>
}

/** `/` for index.html, `/NAME` for NAME.html, also in folders, and what they load from `/assets/`. */
export async function registerPages(app: FastifyInstance, { folder, links }: PagesOptions): Promise<void> {
  if (!existsSync(folder)) {
    app.log.warn(
      { folder },
      'there are no pages: they are built by scripts/build-pages.mjs, which needs Vite',
    )
    return
  }
  await app.register(staticFiles, { root: folder, serve: false, preCompressed: true, etag: true })
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  const pages = files.filter((name) => name.endsWith('.html')).map((name) => name.replaceAll(sep, '/'))
  for (const page of pages) {
    const path = page === 'index.html' ? '/' : `/${page.replace(/\.html$/, '')}`
    app.get(path, async (_request, reply) => {
      reply.header('content-security-policy', contentSecurityPolicy(await links.pictureOrigins()))
      reply.header('cache-control', 'no-cache')
      return reply.sendFile(page, { cacheControl: false })
    })
  }
  app.get<{ Params: { file: string } }>('/assets/:file', async ({ params: { file } }, reply) => {
    // Looked for each time: pages may be built anew while they are served.
    if (!/^\w[\w.-]*$/.test(file) || !existsSync(join(folder, 'assets', file))) return reply.callNotFound()
    // Their names are hashes of what is in them.
    return reply.sendFile(`assets/${file}`, { maxAge: '365d', immutable: true })
  })
}

/** Nothing runs, and nothing is styled, but what came with the page; it asks this service alone. */
const contentSecurityPolicy = (pictureOrigins: readonly string[]): string =>
  [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    `img-src ${["'self'", 'blob:', 'data:', ...pictureOrigins].join(' ')}`,
    "connect-src 'self'",
    "form-action 'none'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
  ].join('; ')
