/** How the pages are built: one entry for each `src/web/*.html` and each page of the reference, into files with hashed names, packed for the wire. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { brotliCompressSync, constants, gzipSync } from 'node:zlib'
import { defineConfig, type Plugin } from 'vite'
import { docs } from './scripts/vite-docs.ts'

const root = fileURLToPath(new URL('src/web/', import.meta.url))

/** Smaller ones gain nothing. */
const leastBytes = 1_024

/** Writes `FILE.br` and `FILE.gz` beside what is text; the server sends those to whoever takes them. */
function compress(): Plugin {
  return {
    name: 'compress',
    apply: 'build',
    writeBundle({ dir = '' }, bundle) {
      for (const name of Object.keys(bundle).filter((name) => /\.(?:js|css|html|svg|yaml|md)$/.test(name))) {
        const bytes = readFileSync(join(dir, name))
        if (bytes.length < leastBytes) continue
        const params = { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY }
        writeFileSync(join(dir, `${name}.br`), brotliCompressSync(bytes, { params }))
        writeFileSync(join(dir, `${name}.gz`), gzipSync(bytes, { level: 9 }))
      }
    },
  }
}

/** Nothing is shown before the script has run: a page in the system's theme would flash before those who chose another. */
function paintOnce(): Plugin {
  return {
    name: 'paint-once',
    apply: 'build',
    transformIndexHtml: {
      order: 'post',
      handler: (html) => html.replace('<script type="module"', '<script type="module" blocking="render"'),
    },
  }
}

const reference = await docs(root)

export default defineConfig({
  root,
  // Pages find their assets, and the service, from where they are themselves: also behind a proxy that serves them under a path.
  base: './',
  plugins: [reference, paintOnce(), compress()],
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: {
    // The first with `light-dark()`.
    target: ['chrome123', 'edge123', 'firefox120', 'safari17.5'],
    modulePreload: { polyfill: false },
    // A file that is put into a page as data: would need a laxer content security policy.
    assetsInlineLimit: 0,
    reportCompressedSize: false,
    license: { fileName: 'licences.md' },
    rolldownOptions: {
      checks: { bundlerTimings: false },
      input: [
        ...readdirSync(root)
          .filter((name) => name.endsWith('.html'))
          .map((name) => join(root, name)),
        ...reference.inputs,
      ],
    },
  },
})
