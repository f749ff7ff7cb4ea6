/** Everything that the playground does, in a real browser, over the real service with a pool that paints when it is let. */
import { readFile } from 'node:fs/promises'
import type { FastifyInstance } from 'fastify'
import type { Browser, BrowserContextOptions, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { defaultProject } from '../../../src/access/project.ts'
import { createAtelier } from '../../../src/sdk/index.ts'
import { buildTestApp, listen, startTestService, testConfig, type TestService } from '../../http/server.ts'
import { accessibilityFaults, chromiumPath, openBrowser, visit, type Visit } from '../../web/browser.ts'

let browser: Browser
let service: TestService
let app: FastifyInstance
let address: string
let tabs: Visit[]
/** Steps of pictures wait for it. */
let gate: { readonly opened: Promise<void>; readonly open: () => void }

beforeAll(async () => {
  if (chromiumPath !== undefined) browser = await openBrowser()
})

afterAll(async () => {
  if (chromiumPath !== undefined) await browser.close()
})

beforeEach(async () => {
  tabs = []
  const { promise, resolve } = Promise.withResolvers<void>()
  gate = { opened: promise, open: resolve }
  service = await startTestService({
    beforeStep: async (step, { prompt }) => {
      if (prompt.includes('slow') && step >= 6) await gate.opened
    },
  })
  await serve()
})

afterEach(async () => {
  gate.open()
  for (const tab of tabs) await tab[Symbol.asyncDispose]()
  await app.close()
  await service.close()
})

async function serve(environment: Record<string, string> = {}, port = 0): Promise<void> {
  app = await buildTestApp(service.generation, { access: service.access, config: testConfig(environment) })
  address = port === 0 ? await listen(app) : await app.listen({ host: '127.0.0.1', port })
}

async function open(options: BrowserContextOptions = {}, path = '/'): Promise<Page> {
  const tab = await visit(browser, options)
  tabs.push(tab)
  await tab.page.goto(`${address}${path}`)
  return tab.page
}

const complaints = () => tabs.flatMap((tab) => tab.complaints)
const prompt = (page: Page) => page.getByRole('textbox', { name: 'Prompt', exact: true })
const picture = (page: Page, name: string) =>
  page.getByRole('article').getByRole('img', { name, exact: true })
const preview = (page: Page, name: string) =>
  page.getByRole('article').getByRole('img', { name: `Preview: ${name}` })
const client = () => createAtelier({ baseUrl: address })

async function ask(page: Page, text: string): Promise<void> {
  await page.getByRole('radio', { name: /^1:1/ }).waitFor({ state: 'attached' })
  await prompt(page).fill(text)
  await prompt(page).press('Enter')
}

describe.skipIf(chromiumPath === undefined)('the playground', () => {
  test('previews come while it is drawn; a reload takes up the same generation, which ends as a picture', async () => {
    const page = await open()
    await ask(page, 'a slow snail')
    await preview(page, 'a slow snail').waitFor()
    const progress = page.getByRole('progressbar', { name: 'Progress' })
    expect(Number(await progress.getAttribute('value'))).toBeGreaterThan(0)
    await page.getByText('Drawing').waitFor()
    await page.reload()
    await preview(page, 'a slow snail').waitFor()
    gate.open()
    await picture(page, 'a slow snail').waitFor()
    expect(await progress.count()).toBe(0)
    const all = await Array.fromAsync(client().generations.list())
    expect(all.map(({ state, preview_steps }) => [state, preview_steps.length])).toEqual([['succeeded', 6]])
    expect(complaints()).toEqual([])
  })

  test('what is drawn can be cancelled, and what waits tells its place in the queue', async () => {
    const page = await open()
    await ask(page, 'a slow snail')
    await preview(page, 'a slow snail').waitFor()
    await ask(page, 'a second slow snail')
    await ask(page, 'a third slow snail')
    await page.getByText('Next in the queue').or(page.getByText('1 before it in the queue')).waitFor()
    await page.getByRole('button', { name: 'Cancel' }).click()
    await page.getByRole('article').getByText('Cancelled').waitFor()
    gate.open()
    await page.getByRole('button', { name: 'a slow snail', exact: true }).click()
    await picture(page, 'a slow snail').waitFor()
    const states = await Array.fromAsync(client().generations.list(), ({ state }) => state)
    expect(states).toEqual(['cancelled', 'succeeded', 'succeeded'])
    expect(complaints()).toEqual([])
  })

  test('every setting reaches the service, and those of a picture can be used again', async () => {
    const page = await open()
    await page.getByRole('radio', { name: '4', exact: true }).check({ force: true })
    await page.getByRole('textbox', { name: 'Seed' }).fill('42')
    await page.getByRole('combobox', { name: 'Size' }).selectOption({ label: '128 × 128, enlarged 2 ×' })
    await page.getByText('More settings').click()
    await page.getByRole('slider', { name: 'Steps' }).fill('12')
    await page.getByRole('slider', { name: 'Guidance' }).fill('7.5')
    await page.getByRole('textbox', { name: 'Negative prompt' }).fill('rain')
    await page.getByRole('combobox', { name: 'Sampler' }).selectOption('euler')
    await page.getByRole('radio', { name: 'WEBP' }).check({ force: true })
    await ask(page, 'a kite')
    await picture(page, 'a kite').waitFor()
    const [made] = await Array.fromAsync(client().generations.list())
    expect(made?.parameters).toMatchObject({
      model: 'paint',
      prompt: 'a kite',
      negative_prompt: 'rain',
      size: '128x128',
      n: 4,
      seed: 42,
      steps: 12,
      guidance_scale: 7.5,
      scheduler: 'euler',
      output_format: 'webp',
    })
    await page.getByRole('button', { name: 'Picture 3 of 4' }).click()
    await page.getByText('42, slice 2').waitFor()

    const another = await open()
    await picture(another, 'a kite').waitFor()
    await another.getByRole('button', { name: 'Reuse' }).click()
    expect(await another.getByRole('textbox', { name: 'Seed' }).inputValue()).toBe('42')
    expect(await prompt(another).inputValue()).toBe('a kite')
    expect(await another.getByRole('radio', { name: '4', exact: true }).isChecked()).toBe(true)
    expect(complaints()).toEqual([])
  })

  test('a picture is downloaded as it is stored, and deleted for good', async () => {
    const page = await open()
    await ask(page, 'a kite')
    await picture(page, 'a kite').waitFor()
    const [made] = await Array.fromAsync(client().generations.list())
    const { bytes } = await client().images.content(made!.images[0]!.id)
    const coming = page.waitForEvent('download')
    await page.getByRole('button', { name: 'Download' }).click()
    const download = await coming
    expect(download.suggestedFilename()).toBe(`${made!.images[0]!.id}.png`)
    expect(new Uint8Array(await readFile(await download.path()))).toEqual(bytes)
    await page.getByRole('button', { name: 'Delete' }).click()
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click()
    await page.getByText('Nothing drawn yet').waitFor()
    expect(await Array.fromAsync(client().generations.list())).toEqual([])
    expect(complaints()).toEqual([])
  })

  test('the history is fetched as one scrolls, found by words however far back, and opened by its address', async () => {
    for (let i = 0; i < 60; i++) {
      const word = i === 2 ? 'needle' : 'straw'
      await client().generations.create({ prompt: `${word} number ${i}`, steps: 1 }, { waitSeconds: 60 })
    }
    const page = await open()
    const cards = page.getByRole('region', { name: 'History' }).getByRole('button')
    await expect.poll(() => cards.count()).toBeGreaterThanOrEqual(24)
    expect(await cards.count()).toBeLessThan(60)
    await expect
      .poll(async () => {
        await page.mouse.wheel(0, 4_000)
        return cards.count()
      })
      .toBe(60)
    await page.reload()
    await page.getByRole('searchbox').fill('needle')
    await expect.poll(() => cards.count()).toBe(1)
    await cards.click()
    await picture(page, 'needle number 2').waitFor()
    await page.reload()
    await picture(page, 'needle number 2').waitFor()
    expect(complaints()).toEqual([])
  })

  test('the whole way by keyboard alone', async () => {
    const page = await open()
    const { keyboard } = page
    const focused = () =>
      page.evaluate('document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent')
    await page.getByRole('radio', { name: /^1:1/ }).waitFor({ state: 'attached' })
    await keyboard.type('first')
    await keyboard.press('Enter')
    await picture(page, 'first').waitFor()
    await keyboard.press('Control+a')
    await keyboard.type('second')
    await keyboard.press('Control+Enter')
    await picture(page, 'second').waitFor()
    for (let i = 0; i < 60 && (await focused()) !== 'Code'; i++) await keyboard.press('Tab')
    await keyboard.press('ArrowRight')
    await picture(page, 'first').waitFor()
    await keyboard.press('ArrowLeft')
    await picture(page, 'second').waitFor()
    for (let i = 0; i < 60 && (await focused()) !== 'Code'; i++) await keyboard.press('Tab')
    await keyboard.press('Enter')
    await page.getByRole('dialog', { name: 'The same picture again' }).waitFor()
    for (let i = 0; i < 8; i++) {
      await keyboard.press('Tab')
      expect(
        await page.evaluate(
          'document.activeElement === document.body || !!document.activeElement.closest("dialog")',
        ),
      ).toBe(true)
    }
    await keyboard.press('Escape')
    expect(await focused()).toBe('Code')
    await keyboard.press('?')
    await page.getByRole('dialog', { name: 'Keyboard shortcuts' }).waitFor()
    await keyboard.press('Escape')
    await keyboard.press('/')
    await keyboard.type('first')
    const cards = page.getByRole('region', { name: 'History' }).getByRole('button')
    await expect.poll(() => cards.count()).toBe(1)
    await keyboard.press('Tab')
    await keyboard.press('Enter')
    await picture(page, 'first').waitFor()
    await keyboard.press('p')
    expect(await focused()).toBe('Prompt')
    expect(complaints()).toEqual([])
  })

  test('a key is asked for, kept in this tab alone, and outlives a reload', async () => {
    const { keys } = service.access
    const page = await open()
    await ask(page, 'before there were keys')
    await picture(page, 'before there were keys').waitFor()
    const { text } = await keys.create({
      name: 'test',
      project: defaultProject,
      scopes: ['generate', 'read'],
    })
    await page.reload()
    await page.getByText('A key is needed').first().waitFor()
    expect(await accessibilityFaults(page)).toEqual([])
    await page.getByRole('button', { name: 'Enter a key' }).last().click()
    await page.getByLabel('API key').fill(text)
    await page.keyboard.press('Enter')
    await picture(page, 'before there were keys').waitFor()
    await page.reload()
    await picture(page, 'before there were keys').waitFor()
    expect(await page.evaluate('JSON.stringify(localStorage)')).not.toContain(text)
    const other = await page.context().newPage()
    await other.goto(address)
    await other.getByText('A key is needed').first().waitFor()
  })

  test('who asks too often is told how long to wait, and a wrong key what is wrong with it', async () => {
    const { text } = await service.access.keys.create({
      name: 'hasty',
      project: defaultProject,
      scopes: ['generate', 'read'],
      requestsPerMinute: 4,
    })
    const page = await open()
    await page.getByText('A key is needed').first().waitFor()
    const enter = async (key: string) => {
      await page.getByRole('banner').getByRole('button', { name: /key/ }).first().click()
      await page.getByLabel('API key').fill(key)
      await page.keyboard.press('Enter')
    }
    await enter(`${text.slice(0, -1)}${text.endsWith('a') ? 'b' : 'a'}`)
    await page.getByText('Your key is not accepted').first().waitFor()
    await page
      .getByText(/cut or mistyped/)
      .first()
      .waitFor()
    await enter(text)
    await page.getByText('Nothing drawn yet').waitFor()
    for (let i = 0; i < 4; i++) await ask(page, `a kite ${i}`)
    await page.getByText('Too many requests').first().waitFor()
    await page
      .getByRole('button', { name: /^Try again in \d+ s$/ })
      .first()
      .waitFor()
    expect(await accessibilityFaults(page)).toEqual([])
  })

  test('a service that goes away and comes back is waited for, and nothing is lost', async () => {
    const page = await open()
    await ask(page, 'a slow snail')
    await preview(page, 'a slow snail').waitFor()
    const port = Number(new URL(address).port)
    await app.close()
    await page.getByText('Connection lost').waitFor({ timeout: 60_000 })
    await ask(page, 'a kite')
    await page.getByText('The service cannot be reached').waitFor()
    await serve({}, port)
    gate.open()
    await picture(page, 'a slow snail').waitFor({ timeout: 60_000 })
    await page.getByRole('button', { name: 'Try again' }).click()
    await picture(page, 'a kite').waitFor()
    const prompts = await Array.fromAsync(client().generations.list(), ({ parameters }) => parameters.prompt)
    expect(prompts).toEqual(['a kite', 'a slow snail'])
  })

  test.each(['light', 'dark'] as const)(
    'axe-core finds nothing wrong, theme %s, at three widths',
    async (colorScheme) => {
      for (const width of [390, 820, 1440]) {
        const page = await open({ colorScheme, viewport: { width, height: 900 } })
        await page.getByText('Nothing drawn yet').waitFor()
        expect(await accessibilityFaults(page)).toEqual([])
        if (width < 960) await page.getByRole('button', { name: 'Settings' }).click()
        await page.getByText('More settings').click()
        await ask(page, 'a slow snail')
        await preview(page, 'a slow snail').waitFor()
        expect(await accessibilityFaults(page)).toEqual([])
        await page.getByRole('button', { name: 'Cancel' }).click()
        await page.getByRole('article').getByText('Cancelled').waitFor()
        await ask(page, 'a kite')
        await picture(page, 'a kite').waitFor()
        expect(await accessibilityFaults(page)).toEqual([])
        await page.getByRole('button', { name: 'Code' }).click()
        expect(await accessibilityFaults(page)).toEqual([])
        expect(await page.evaluate('document.documentElement.scrollWidth <= innerWidth')).toBe(true)
        await client().generations.deleteCreatedBefore(new Date(Date.now() + 1_000))
      }
      expect(complaints()).toEqual([])
    },
  )

  test('the first load is light and quick', async () => {
    let paintMs = Infinity
    // The quickest of five: what else this machine does is not the page's.
    for (let i = 0; i < 5; i++) {
      const page = await open()
      const script = `performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? Infinity`
      await expect.poll(() => page.evaluate(script)).toBeLessThan(Infinity)
      paintMs = Math.min(paintMs, await page.evaluate(script))
      const scripts = `performance.getEntriesByType('resource').filter(({ name }) => name.endsWith('.js')).map(({ encodedBodySize }) => encodedBodySize)`
      const sizes = (await page.evaluate(scripts)) as number[]
      const total = sizes.reduce((sum, size) => sum + size, 0)
      expect(total).toBeGreaterThan(1_000)
      expect(total).toBeLessThanOrEqual(150 * 1024)
      console.log(`first contentful paint after ${Math.round(paintMs)} ms, ${total} bytes of script`)
    }
    expect(paintMs).toBeLessThanOrEqual(1_000)
  })
})
