/** What keys may be used for. None implies another. */
export const scopes = ['generate', 'read', 'admin'] as const

export type Scope = (typeof scopes)[number]

export const isScope = (name: string): name is Scope => scopes.some((scope) => scope === name)
