/** The playground as a user meets it: the real service, its own model, a real browser. */
import { expect, test } from 'vitest'
import { startServer, temporaryFolder } from '../e2e/server.ts'
import { accessibilityFaults, chromiumPath, openBrowser, visit } from './browser.ts'

test.skipIf(chromiumPath === undefined)(
  'a prompt that is typed becomes a picture, which is still there after a reload',
  async () => {
    await using folder = await temporaryFolder()
    const server = await startServer({ dataDir: folder.path, environment: { ATELIER_MODEL: 'emoji' } })
    const browser = await openBrowser()
    try {
      await using tab = await visit(browser)
      const { page, complaints } = tab
      await page.goto(server.url)
      await page.getByRole('radio', { name: '1:1, 64 by 64 pixels' }).waitFor()
      await page.keyboard.type('a cat face on a dark blue background')
      await page.keyboard.press('Enter')
      const picture = page.getByRole('img', { name: 'a cat face on a dark blue background', exact: true })
      await picture.waitFor({ timeout: 120_000 })
      await expect
        .poll(() => picture.evaluate((image: { naturalWidth: number }) => image.naturalWidth))
        .toBe(512)
      await page.reload()
      await picture.waitFor()
      expect(await page.getByRole('textbox', { name: 'Prompt' }).inputValue()).toMatch(/^a cat face/)
      expect(await accessibilityFaults(page)).toEqual([])
      expect(complaints).toEqual([])
    } finally {
      await browser.close()
      await server.stop()
    }
  },
)
