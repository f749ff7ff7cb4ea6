/** The pages as the server sends them, and as a real browser takes them. */
import type { FastifyInstance } from 'fastify'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { buildTestApp, listen, startTestService } from '../http/server.ts'
import { send } from '../http/requests.ts'
import { unreachableService } from '../http/unreachable.ts'
import { accessibilityFaults, chromiumPath, openBrowser, visit } from './browser.ts'

let app: FastifyInstance
let address: string

beforeAll(async () => {
  app = await buildTestApp({ ...unreachableService, linkToBlob: async () => undefined })
  address = await listen(app)
})

afterAll(async () => {
  await app.close()
})

const assetOf = (html: string, ending: string): string =>
  new RegExp(`"\\.(/assets/[^"]+\\.${ending})"`).exec(html)?.[1] ?? expect.fail(html)

describe('what is sent', () => {
  test('a page is asked for anew each time, and is told by its ETag', async () => {
    const { status, headers, body } = await send(address, { path: '/' })
    expect(status).toBe(200)
    expect(headers['content-type']).toBe('text/html; charset=utf-8')
    expect(headers['cache-control']).toBe('no-cache')
    expect(body).toMatch(/^<!doctype html>/)
    const known = { 'if-none-match': headers.etag! }
    expect((await send(address, { path: '/', headers: known })).status).toBe(304)
    expect((await send(address, { path: '/', method: 'HEAD' })).body).toBe('')
    expect((await send(address, { path: '/?from=a-link' })).status).toBe(200)
  })

  test('nothing runs and nothing is styled but what came with the page', async () => {
    const { headers, body } = await send(address, { path: '/' })
    const policy = String(headers['content-security-policy']).split('; ')
    expect(policy).toEqual([
      "default-src 'none'",
      "script-src 'self'",
      "style-src 'self'",
      "img-src 'self' blob: data:",
      "connect-src 'self'",
      "form-action 'none'",
      "base-uri 'none'",
      "frame-ancestors 'none'",
    ])
    expect(body).not.toMatch(/<style|style=|<script>| on\w+=/)
  })

  test.each(['js', 'css'])(
    'a .%s file is kept for ever, and comes packed to whoever takes it so',
    async (ending) => {
      // What the playground loads first may be too small to be packed.
      const path = assetOf((await send(address, { path: '/studio' })).body, ending)
      for (const [encoding, expected] of [
        ['br, gzip', 'br'],
        ['gzip', 'gzip'],
        ['identity', undefined],
      ] as const) {
        const { status, headers } = await send(address, { path, headers: { 'accept-encoding': encoding } })
        expect(status).toBe(200)
        expect(headers['content-encoding']).toBe(expected)
        expect(headers['cache-control']).toBe('public, max-age=31536000, immutable')
        expect(headers.vary).toContain('accept-encoding')
      }
    },
  )

  test.each([
    '/assets/other.js',
    '/assets/..%2findex.html',
    '/assets/',
    '/index.html',
    '/studio/',
    '/.sources-sha256',
  ])('%s is no page: it is answered as any unknown route', async (path) => {
    const { status, body } = await send(address, { path })
    expect([status, JSON.parse(body).error.code]).toEqual([404, 'unknown_url'])
  })

  test('a page is behind the same guard as the API where there are no keys', async () => {
    expect((await send(address, { path: '/', headers: { host: 'evil.example' } })).status).toBe(403)
  })

  test('where pictures lie in a storage of their own the policy lets them in from there', async () => {
    const other = await buildTestApp({
      ...unreachableService,
      linkToBlob: async (key) => `https://bucket.s3.example/${key}?X-Amz-Signature=1`,
    })
    try {
      const { headers } = await other.inject({ url: '/', headers: { host: 'localhost:80' } })
      expect(headers['content-security-policy']).toContain(
        "img-src 'self' blob: data: https://bucket.s3.example;",
      )
    } finally {
      await other.close()
    }
  })
})

describe.skipIf(chromiumPath === undefined)('in a browser', () => {
  test.each(['light', 'dark'] as const)(
    'the page loads without a complaint and is accessible in its %s theme; the choice outlives a reload',
    async (theme) => {
      const service = await startTestService()
      const whole = await buildTestApp(service.generation)
      const browser = await openBrowser()
      try {
        await using tab = await visit(browser, { colorScheme: theme === 'light' ? 'dark' : 'light' })
        const { page, complaints } = tab
        await page.goto(await listen(whole))
        for (let i = 0; i < (theme === 'light' ? 1 : 2); i++)
          await page.getByRole('button', { name: /^Theme/ }).click()
        await page.reload()
        expect(await page.locator('html').getAttribute('data-theme')).toBe(theme)
        await page.getByRole('button', { name: `Theme: ${theme}` }).waitFor()
        expect(await accessibilityFaults(page)).toEqual([])
        await page.getByRole('button', { name: 'Keyboard shortcuts' }).click()
        await page.getByRole('dialog', { name: 'Keyboard shortcuts' }).waitFor()
        expect(await accessibilityFaults(page)).toEqual([])
        expect(complaints).toEqual([])
      } finally {
        await browser.close()
        await whole.close()
        await service.close()
      }
    },
  )
})
