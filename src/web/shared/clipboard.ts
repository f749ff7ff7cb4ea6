/** Copying. The clipboard's own interface is there on secure origins alone, and a service in a local network has none. */

export async function copyText(text: string): Promise<void> {
  if (window.isSecureContext) {
    await navigator.clipboard.writeText(text)
    return
  }
  // A modal dialog would take the focus away from anything outside.
  const parent = document.querySelector('dialog[open]') ?? document.body
  const area = document.createElement('textarea')
  area.value = text
  area.readOnly = true
  area.className = 'visually-hidden'
  parent.append(area)
  area.select()
  const wasCopied = document.execCommand('copy')
  area.remove()
  if (!wasCopied) throw new Error('this browser lets no page copy from an address without https')
}
