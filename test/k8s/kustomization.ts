/** Reads a kustomization as far as ours go: files, other kustomizations, a namespace and images. Anything else in one is refused. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { loadAll } from 'js-yaml'

export const k8s = fileURLToPath(new URL('../../k8s', import.meta.url))
export const overlays = ['single-node', 'cluster'] as const

export interface Resource {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: { readonly name: string; readonly labels?: Readonly<Record<string, string>> }
  readonly data?: Readonly<Record<string, string>>
  // oxlint-disable-next-line typescript/no-explicit-any -- what is below it is held against the schema of its kind
  readonly spec: any
}

export interface Kustomization {
  readonly resources: readonly Resource[]
  readonly images: readonly string[]
  readonly files: readonly string[]
}

const known = ['apiVersion', 'kind', 'namespace', 'resources', 'images']

export function readKustomization(folder: string): Kustomization {
  const file = join(folder, 'kustomization.yaml')
  const [own] = loadAll(readFileSync(file, 'utf8')) as [Record<string, unknown>]
  for (const key of Object.keys(own))
    if (!known.includes(key)) throw new Error(`${file}: ${key} is not read here`)
  const parts = ((own['resources'] ?? []) as string[]).map((path): Kustomization => {
    const target = join(folder, path)
    if (!existsSync(target)) throw new Error(`${file}: there is no ${path}`)
    if (statSync(target).isDirectory()) return readKustomization(target)
    return { resources: loadAll(readFileSync(target, 'utf8')) as Resource[], images: [], files: [target] }
  })
  const images = ((own['images'] ?? []) as { readonly name: string }[]).map(({ name }) => name)
  return {
    resources: parts.flatMap(({ resources }) => resources),
    images: [...images, ...parts.flatMap((part) => part.images)],
    files: [file, ...parts.flatMap(({ files }) => files)],
  }
}

export const allFiles = (): readonly string[] =>
  readdirSync(k8s, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.yaml'))
    .map((path) => relative(k8s, join(k8s, path)))
