/** The fenced blocks of a Markdown file, as its info strings say what is to become of them. */
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { marked, type Token } from 'marked'

export interface Block {
  /** File and line, for whoever has to look there. */
  readonly place: string
  readonly language: string
  readonly code: string
  readonly fate: Fate
}

export type Fate =
  /** Run here, and held to what follows it. */
  | { readonly kind: 'run'; readonly outputs: readonly Output[]; readonly status: number | undefined }
  /** Goes on where the program before it ended. */
  | { readonly kind: 'continue'; readonly outputs: readonly Output[] }
  /** How the server is started that the blocks around it talk to. */
  | { readonly kind: 'server' }
  /** Run on a database server of its own. */
  | { readonly kind: 'postgres'; readonly outputs: readonly Output[] }
  /** Not to be run here, for a reason that the test lists. */
  | { readonly kind: 'elsewhere'; readonly reason: string }

export interface Output {
  readonly language: 'json' | 'text'
  readonly expected: string
}

/** @throws at a block whose info string says nothing that is known: nothing is skipped unseen */
export function readBlocks(path: string): Block[] {
  const text = readFileSync(path, 'utf8')
  const blocks: Block[] = []
  let from = 0
  for (const { lang, raw, text: code } of fences(marked.lexer(text))) {
    const at = text.indexOf(raw.trimEnd(), from)
    from = at + raw.length
    const place = `${basename(path)}:${text.slice(0, at).split('\n').length}`
    const [language = '', ...words] = (lang ?? '').split(' ')
    if (words[0] === 'output') {
      const { fate } = blocks.at(-1) ?? {}
      if (!fate || !('outputs' in fate) || (language !== 'json' && language !== 'text'))
        throw new Error(`${place}: an output of nothing that is run`)
      blocks[blocks.length - 1] = {
        ...blocks.at(-1)!,
        fate: { ...fate, outputs: [...fate.outputs, { language, expected: code }] },
      }
    } else blocks.push({ place, language, code, fate: fateOf(words, place) })
  }
  return blocks
}

function fences(tokens: readonly Token[]): { lang?: string; raw: string; text: string }[] {
  return tokens.flatMap((token) => {
    if (token.type === 'code') return [token as { lang?: string; raw: string; text: string }]
    return 'tokens' in token && token.tokens ? fences(token.tokens) : []
  })
}

function fateOf([word, ...others]: readonly string[], place: string): Fate {
  if (others.length > 0) throw new Error(`${place}: too much is said: ${others.join(' ')}`)
  if (word === undefined) return { kind: 'run', outputs: [], status: undefined }
  if (word === 'continues') return { kind: 'continue', outputs: [] }
  if (word === 'postgres') return { kind: 'postgres', outputs: [] }
  if (word === 'server') return { kind: 'server' }
  const [name, value = ''] = word.split('=')
  if (name === 'status') return { kind: 'run', outputs: [], status: Number(value) }
  if (name === 'elsewhere') return { kind: 'elsewhere', reason: value }
  throw new Error(`${place}: nobody knows what ${JSON.stringify(word)} means`)
}
