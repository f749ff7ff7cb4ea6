/** The reference: every page of it is there and complete by itself, leads only to what is there, and is a page for everybody. */
import { existsSync, readFileSync } from 'node:fs'
import type { FastifyInstance } from 'fastify'
import { load } from 'js-yaml'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { send } from '../http/requests.ts'
import { buildTestApp, listen } from '../http/server.ts'
import { unreachableService } from '../http/unreachable.ts'
import { accessibilityFaults, chromiumPath, openBrowser, visit } from './browser.ts'

let app: FastifyInstance
let address: string
/** HTML by path, of every page that is to be reached from `/docs`. */
const pages = new Map<string, string>()

beforeAll(async () => {
  app = await buildTestApp({ ...unreachableService, linkToBlob: async () => undefined })
  address = await listen(app)
  const waiting = ['/docs']
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    if (pages.has(path)) continue
    const { status, body } = await send(address, { path })
    pages.set(path, status === 200 ? body : `${status}`)
    waiting.push(
      ...linksIn(path, body)
        .map(({ pathname }) => pathname)
        .filter((path) => path.startsWith('/docs')),
    )
  }
})

afterAll(async () => {
  await app.close()
})

/** Links to this service, as they are resolved on the page at `path`. */
const linksIn = (path: string, html: string): URL[] =>
  [...html.matchAll(/<a [^>]*?href="([^"]*)"/g)]
    .map(([, href]) => new URL(href!, `${address}${path}`))
    .filter(({ origin }) => origin === address)

const idsIn = (html: string): Set<string> =>
  new Set([...html.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id!))

describe('what is sent', () => {
  test('every link leads to a page that is there, and to a place on it that is there', async () => {
    expect(pages.size).toBeGreaterThan(15)
    const broken: string[] = []
    for (const [path, html] of pages)
      for (const { pathname, hash } of linksIn(path, html)) {
        const target = pages.get(pathname)
        const isThere =
          target === undefined ? ['/', '/openapi.yaml'].includes(pathname) : target.startsWith('<!')
        if (!isThere || (hash !== '' && !idsIn(target ?? '').has(decodeURIComponent(hash.slice(1)))))
          broken.push(`${path} → ${pathname}${hash}`)
      }
    expect(broken).toEqual([])
  })

  test('every operation of the contract, and every object that answers hold, has its place', () => {
    const contract = load(readFileSync(new URL('../../openapi.yaml', import.meta.url), 'utf8')) as {
      paths: Record<string, Record<string, { operationId: string }>>
    }
    const told = new Set([...pages.values()].flatMap((html) => [...idsIn(html)]))
    const operations = Object.values(contract.paths).flatMap((methods) =>
      Object.values(methods).map(({ operationId }) => operationId),
    )
    expect(operations.filter((id) => !told.has(id))).toEqual([])
    expect(told).toContain('Generation')
    expect(told).toContain('FineTuningJob')
  })

  test('it can be read without a script, and nothing in it is styled or run inline', () => {
    for (const html of pages.values()) {
      expect(html).toContain('<h1')
      expect(html).not.toContain('<img')
      expect(html.replaceAll(/<pre[\s\S]*?<\/pre>/g, '')).not.toMatch(/<style|style=|<script>| on\w+="/)
    }
  })

  test('a page loads less than 150 KB of scripts, packed, and the search no more than 60', () => {
    const html = pages.get('/docs')!
    const { eager, lazy } = weightOf(
      [...html.matchAll(/<script[^>]*assets\/([^"]+\.js)/g)].map(([, file]) => file!),
    )
    expect(eager).toBeGreaterThan(5_000)
    expect(eager).toBeLessThan(150_000)
    expect(lazy).toBeLessThan(60_000)
  })
})

const assets = new URL('../../dist/web/assets/', import.meta.url)

/** Bytes as they are sent, of scripts and all that they import at once, and of what they import when asked. */
function weightOf(entries: readonly string[]): { eager: number; lazy: number } {
  const seen = new Set<string>()
  const weigh = (name: string): number => {
    if (seen.has(name)) return 0
    seen.add(name)
    const packed = new URL(`${name}.br`, assets)
    const source = readFileSync(new URL(name, assets), 'utf8')
    const imported = [...source.matchAll(/(?:from|import)\s*"\.\/([^"]+\.js)"/g)].map(([, file]) => file!)
    return readFileSync(existsSync(packed) ? packed : new URL(name, assets)).length + sum(imported.map(weigh))
  }
  const eager = sum(entries.map(weigh))
  const later = [...seen].flatMap((name) => {
    const source = readFileSync(new URL(name, assets), 'utf8')
    return [...source.matchAll(/import\(\s*["`]\.\/([^"`]+\.js)["`]\s*\)/g)].map(([, file]) => file!)
  })
  return { eager, lazy: sum(later.map(weigh)) }
}

/** The first page, a guide, one with wide tables, and one of the API. */
const kinds = ['/docs', '/docs/streaming', '/docs/operations', '/docs/api/images']

const sum = (numbers: readonly number[]): number => numbers.reduce((total, each) => total + each, 0)

describe.skipIf(chromiumPath === undefined)('in a browser', () => {
  test.each(['light', 'dark'] as const)(
    'pages of every kind are accessible and do not complain, in their %s theme',
    async (colorScheme) => {
      const browser = await openBrowser()
      try {
        await using tab = await visit(browser, { colorScheme, viewport: { width: 1440, height: 900 } })
        for (const path of kinds) {
          await tab.page.goto(`${address}${path}`)
          await tab.page.getByRole('searchbox').waitFor()
          expect([path, ...(await accessibilityFaults(tab.page))]).toEqual([path])
        }
        expect(tab.complaints).toEqual([])
      } finally {
        await browser.close()
      }
    },
  )

  test('by keyboard alone: the search finds an operation, and its place is opened', async () => {
    const browser = await openBrowser()
    try {
      await using tab = await visit(browser)
      const { page, complaints } = tab
      await page.goto(`${address}/docs`)
      await page.getByRole('searchbox').waitFor()
      await page.keyboard.press('/')
      await page.keyboard.type('cancelGeneration')
      const first = page.locator('.docs-search__found a').first()
      await first.waitFor()
      expect(await accessibilityFaults(page)).toEqual([])
      await page.keyboard.press('ArrowDown')
      await page.keyboard.press('Enter')
      await page.waitForURL('**/docs/api/generations#cancelGeneration')
      const isInSight = () =>
        page.locator('#cancelGeneration').evaluate((heading) => {
          const { top } = heading.getBoundingClientRect()
          return top >= 0 && top < 400
        })
      await expect.poll(isInSight).toBe(true)
      expect(complaints).toEqual([])
    } finally {
      await browser.close()
    }
  })

  test('on a phone the contents open over the page, nothing is wider than it, and the way on is found', async () => {
    const browser = await openBrowser()
    try {
      await using tab = await visit(browser, { viewport: { width: 390, height: 844 } })
      const { page } = tab
      for (const path of kinds) {
        await page.goto(`${address}${path}`)
        const surplus = await page.evaluate('document.documentElement.scrollWidth - innerWidth')
        expect([path, surplus]).toEqual([path, 0])
      }
      await page.goto(`${address}/docs`)
      await page.getByRole('button', { name: 'Contents' }).click()
      expect(await accessibilityFaults(page)).toEqual([])
      await page
        .getByRole('navigation', { name: 'Contents' })
        .getByRole('link', { name: 'Streaming' })
        .click()
      await page.getByRole('heading', { name: 'Streaming', level: 1 }).waitFor()
    } finally {
      await browser.close()
    }
  })
})
