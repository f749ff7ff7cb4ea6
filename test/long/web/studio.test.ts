/** The studio in a real browser, on a real server, by the keyboard alone: pictures go in, a model learns, it is put live, and taken back. */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { c as pack } from 'tar'
import { expect, test } from 'vitest'
import { createAtelier } from '../../../src/sdk/index.ts'
import { startServer, temporaryFolder } from '../../e2e/server.ts'
import { accessibilityFaults, chromiumPath, openBrowser, visit } from '../../web/browser.ts'
import { press, tabTo, write } from '../../web/keyboard.ts'

const examples = fileURLToPath(new URL('../../../examples', import.meta.url))

test.skipIf(chromiumPath === undefined)(
  'a set is uploaded, a job learns from it while its chart moves, and what it made is deployed and rolled back',
  { timeout: 400_000 },
  async () => {
    await using folder = await temporaryFolder()
    const archive = join(folder.path, 'shapes.tar.gz')
    await pack({ gzip: true, file: archive, cwd: join(examples, 'shapes') }, ['.'])
    const server = await startServer({
      dataDir: join(folder.path, 'data'),
      environment: { ATELIER_MAX_TRAIN_MICRO_STEP_MS: '60000' },
    })
    const atelier = createAtelier({ baseUrl: server.url })
    const paint = async (): Promise<string> => {
      const { data } = await atelier.images.generate({
        prompt: 'a red circle',
        size: '128x128',
        seed: 4,
        steps: 2,
      })
      const { bytes } = await atelier.images.content(data[0]!.id)
      return createHash('sha256').update(bytes).digest('hex')
    }
    const before = await paint()

    const browser = await openBrowser()
    try {
      await using tab = await visit(browser)
      const { page, complaints } = tab
      page.setDefaultTimeout(60_000)
      const isAccessible = async () => {
        for (const colorScheme of ['light', 'dark'] as const) {
          await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' })
          expect(await accessibilityFaults(page)).toEqual([])
        }
      }

      await page.goto(`${server.url}/studio`)
      await page.getByText('Teach a model something of yours').waitFor()
      await isAccessible()

      await press(page, 'role=link[name="Upload pictures"]')
      await tabTo(page, 'input[type=file]')
      const [chooser] = await Promise.all([page.waitForEvent('filechooser'), page.keyboard.press('Enter')])
      await isAccessible()
      await chooser.setFiles(archive)
      await write(page, 'role=textbox[name="Name"]', 'shapes by hand')
      await page.keyboard.press('Enter')

      await page.getByRole('heading', { name: 'shapes by hand' }).waitFor()
      await page.getByText('Ready').waitFor()
      await page.getByRole('img', { name: 'a red circle' }).waitFor()
      expect(
        await page.getByRole('list', { name: 'Pictures', exact: true }).getByRole('listitem').count(),
      ).toBe(12)
      await isAccessible()

      await press(page, 'role=button[name="a blue circle Edit"]')
      await page.keyboard.type('a round blue thing')
      await page.keyboard.press('Enter')
      await page.getByRole('button', { name: 'a round blue thing Edit' }).waitFor()
      await page.keyboard.press('Shift+Tab')

      await page.keyboard.press('n')
      await page.getByText('Nothing is created yet').waitFor()
      await isAccessible()
      await write(page, 'role=spinbutton[name="Resolution, px"]', '64')
      await write(page, 'role=spinbutton[name="Steps"]', '120')
      await write(page, 'role=spinbutton[name="Pictures a step"]', '2')
      await write(page, 'role=spinbutton[name="Steps between sample sheets"]', '30')
      await write(page, 'role=spinbutton[name="Steps between checkpoints"]', '40')
      await page.getByText('120 steps of 2 at 64 px').waitFor()
      await press(page, 'role=button[name="Create the job"][disabled=false]')

      const charts = page.getByRole('region', { name: 'Metrics' })
      const charted = async () => Number(await charts.getAttribute('data-steps'))
      await charts.getByRole('img', { name: /^Loss over the steps/ }).waitFor()
      await expect.poll(charted, { timeout: 120_000 }).toBeGreaterThan(0)
      const seen = await charted()
      await expect.poll(charted, { timeout: 120_000 }).toBeGreaterThan(seen)
      await page.getByText('Done', { exact: true }).waitFor({ timeout: 120_000 })
      await expect.poll(charted, { timeout: 20_000 }).toBe(120)
      await isAccessible()

      const slider = 'role=slider'
      await page.getByText('4 of 4').waitFor()
      await tabTo(page, slider)
      await page.keyboard.press('Home')
      await page.getByRole('list', { name: 'Samples after step 30' }).waitFor()
      await press(page, 'role=button[name="Side by side"]')
      await page.getByRole('region', { name: 'Right' }).getByText('Drawn by exactly these weights').waitFor()
      await isAccessible()

      await press(page, 'role=button[name="Deploy step 120"]')
      await page.getByText('This name serves already').waitFor()
      await isAccessible()
      await page.keyboard.press('Enter')
      await page.getByText('serves as tiny').waitFor()
      const after = await paint()
      expect(after).not.toBe(before)

      await page.keyboard.press('3')
      await page.getByText('Live', { exact: true }).waitFor()
      await isAccessible()
      await press(page, 'role=button[name="Roll back tiny"]')
      await page.getByText('as the server was configured').waitFor()
      expect(await paint()).toBe(before)

      await page.keyboard.press('4')
      await page.getByRole('img', { name: /^cpu.* in the last 5 min/ }).waitFor()
      await isAccessible()
      const [device] = (await atelier.devices.list()).data
      for (const shares of [device?.serving, device?.training])
        expect(shares?.reduce((sum, share) => sum + share, 0)).toBeGreaterThan(0.1)
      expect(complaints).toEqual([])
    } finally {
      await browser.close()
    }
    expect(await server.stop()).toBe(0)
  },
)
