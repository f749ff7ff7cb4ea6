declare module 'virtual:docs-search' {
  export const searchables: readonly import('./render/site.tsx').Searchable[]
}
