/** A real browser for tests: Debian's Chromium, driven by playwright-core; and what is measured in its pages. */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import {
  chromium,
  type Browser,
  type BrowserContext,
  type BrowserContextOptions,
  type Page,
} from 'playwright-core'

const places = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']

/** Where the browser is; undefined where there is none, and tests that need one are skipped. */
export const chromiumPath: string | undefined = [process.env['ATELIER_TEST_CHROMIUM'] ?? '', ...places].find(
  (path) => path !== '' && existsSync(path),
)

export async function openBrowser(): Promise<Browser> {
  return chromium.launch({
    ...(chromiumPath !== undefined && { executablePath: chromiumPath }),
    // The sandbox needs rights that a container's root does not have; the pages are our own.
    args: ['--no-sandbox', '--disable-dev-shm-usage'],
  })
}

export interface Visit extends AsyncDisposable {
  readonly page: Page
  readonly context: BrowserContext
  /** What the page complained of: exceptions, console errors (refusals by the content security policy among them), failed loads. */
  readonly complaints: readonly string[]
}

/** A tab with nothing kept from others. */
export async function visit(browser: Browser, options: BrowserContextOptions = {}): Promise<Visit> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options })
  const page = await context.newPage()
  const complaints: string[] = []
  page.on('pageerror', (error) => complaints.push(String(error)))
  page.on('console', (message) => {
    if (message.type() === 'error') complaints.push(message.text())
  })
  return { page, context, complaints, [Symbol.asyncDispose]: () => context.close() }
}

/** Colours on their way from one theme to the other are none of either; what is nested deeper may begin later. */
const transitionsEnd = `(async () => {
  const isMoving = () => document.getAnimations().some((each) => each instanceof CSSTransition)
  for (let calm = 0; calm < 5; calm = isMoving() ? 0 : calm + 1) await new Promise(requestAnimationFrame)
})()`

const axePath = createRequire(import.meta.url).resolve('axe-core/axe.min.js')

/** @returns what axe-core finds wrong with the page as it stands, by rule and element */
export async function accessibilityFaults(page: Page): Promise<string[]> {
  await page.evaluate(transitionsEnd)
  // By the debugger, which the content security policy does not concern.
  await page.evaluate(await readFile(axePath, 'utf8'))
  const results = (await page.evaluate('axe.run({ resultTypes: ["violations"] })')) as {
    violations: { id: string; help: string; nodes: { html: string; failureSummary?: string }[] }[]
  }
  return results.violations.flatMap(({ id, help, nodes }) =>
    nodes.map(({ html, failureSummary }) => `${id}: ${help}\n${html}\n${failureSummary}`),
  )
}
