/** The keyboard's way through a page: from what has the focus to what is wanted, by Tab alone. */
import type { Page } from 'playwright-core'

/** More than any page of ours has that can be reached. */
const mostTabs = 200

/**
 * Presses Tab until what the selector matches has the focus.
 * @param selector as Playwright has it, such as `role=button[name="Upload"]`
 * @throws {Error} when the keyboard does not get there
 */
export async function tabTo(page: Page, selector: string): Promise<void> {
  const wanted = page.locator(selector).first()
  await wanted.waitFor({ state: 'attached' })
  for (let presses = 0; presses < mostTabs; presses++) {
    if (await wanted.evaluate((element) => element === element.ownerDocument.activeElement)) return
    await page.keyboard.press('Tab')
  }
  throw new Error(`expected ${selector} to be reached by Tab, pressed it ${mostTabs} times`)
}

/** Goes there and presses Enter. */
export async function press(page: Page, selector: string): Promise<void> {
  await tabTo(page, selector)
  await page.keyboard.press('Enter')
}

/** Goes there and types, in place of what is there. */
export async function write(page: Page, selector: string, text: string): Promise<void> {
  await tabTo(page, selector)
  await page.keyboard.press('ControlOrMeta+a')
  await page.keyboard.type(text)
}
