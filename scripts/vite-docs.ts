/** Vite's part in the reference: its pages are rendered here, as if they were HTML files in src/web, and so is what its search knows. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runnerImport, type Plugin } from 'vite'

const clone = fileURLToPath(new URL('../', import.meta.url))
const searchModule = 'virtual:docs-search'

/** The parts of src/web/docs/render/site.tsx that are used here; it is JSX, which Node does not read. */
interface Renderer {
  readonly places: Readonly<Record<string, string>>
  renderSite(sources: { contract: string; documents: Record<string, string> }): {
    readonly pages: Readonly<Record<string, string>>
    readonly search: readonly unknown[]
  }
}

/** @param root the folder of the pages */
export async function docs(root: string): Promise<Plugin & { readonly inputs: readonly string[] }> {
  const { module } = await runnerImport<Renderer>(join(root, 'docs/render/site.tsx'), {
    configFile: false,
    root,
    oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  })
  const read = (file: string) => readFileSync(join(clone, file), 'utf8')
  const { pages, search } = module.renderSite({
    contract: read('openapi.yaml'),
    documents: Object.fromEntries(Object.keys(module.places).map((file) => [file, read(file)])),
  })
  const files = new Map(Object.entries(pages).map(([path, html]) => [join(root, `${path}.html`), html]))
  return {
    name: 'docs',
    enforce: 'pre',
    inputs: [...files.keys()],
    resolveId: (id) => (id === searchModule ? `\0${searchModule}` : files.has(id) ? id : undefined),
    load: (id) =>
      id === `\0${searchModule}` ? `export const searchables = ${JSON.stringify(search)}` : files.get(id),
  }
}
