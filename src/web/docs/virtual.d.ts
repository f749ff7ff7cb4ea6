declare module 'virtual:docs-search' {
  import type { Searchable } from './render/site.tsx'
  export const searchables: readonly Searchable[]
}
