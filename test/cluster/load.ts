/** Clients that have one generation made after the other, each under a key of its own, and that go on asking until they are told. */
import { setTimeout as sleep } from 'node:timers/promises'

export interface Load {
  /** Something happened that must not: `stop` tells what. */
  readonly hasFailed: boolean
  /** Ends it, also in the middle of what was asked. @throws when something accepted was not there, or something right was refused */
  stop(): Promise<Loaded>
}

export interface Loaded {
  /** By their keys. */
  readonly accepted: ReadonlyMap<string, { readonly id: string; readonly picture: number }>
  /** How often each status came; `none` where nothing did. */
  readonly answers: Readonly<Record<string, number>>
  /** What came with a 5xx that is no 503. */
  readonly unclear: readonly string[]
}

/** Pictures repeat, and each time must be the same to the byte. */
const differentPictures = 12
const patienceMs = 15_000
const betweenLooksMs = 250
const final: readonly string[] = ['succeeded', 'failed']

export function startLoad(apis: readonly { readonly url: string }[], clients: number): Load {
  const over = new AbortController()
  const accepted = new Map<string, { readonly id: string; readonly picture: number }>()
  const answers: Record<string, number> = {}
  const unclear: string[] = []
  let hasFailed = false

  /** @returns undefined when no whole answer came */
  async function call(path: string, init: RequestInit = {}) {
    const { url } = apis[Math.floor(Math.random() * apis.length)]!
    try {
      const response = await fetch(`${url}${path}`, { ...init, signal: AbortSignal.timeout(patienceMs) })
      const { status } = response
      const text = await response.text()
      answers[status] = (answers[status] ?? 0) + 1
      if (status >= 500 && status !== 503) unclear.push(text)
      return { status, text }
    } catch {
      answers['none'] = (answers['none'] ?? 0) + 1
      return undefined
    }
  }

  async function create(key: string, picture: number): Promise<string | undefined> {
    const body = JSON.stringify({
      prompt: `picture ${picture}`,
      seed: picture,
      size: '256x256',
      steps: 1 + (picture % 4),
    })
    const headers = { 'content-type': 'application/json', 'idempotency-key': key }
    while (!over.signal.aborted) {
      const answer = await call('/v1/generations', { method: 'POST', headers, body })
      if (answer && answer.status < 300) return (JSON.parse(answer.text) as { id: string }).id
      if (answer && answer.status < 500 && answer.status !== 429)
        throw new Error(`${answer.status}: ${answer.text}`)
      await sleep(betweenLooksMs)
    }
    return undefined
  }

  async function client(name: number): Promise<void> {
    for (let turn = 0; !over.signal.aborted; turn++) {
      const [key, picture] = [`${name}-${turn}`, (name * 5 + turn) % differentPictures]
      const id = await create(key, picture)
      if (id === undefined) return
      accepted.set(key, { id, picture })
      for (let state = 'queued'; !over.signal.aborted && !final.includes(state);) {
        await sleep(betweenLooksMs)
        const answer = await call(`/v1/generations/${id}`)
        if (answer?.status === 404) throw new Error(`${id} was accepted and is not there`)
        if (answer?.status === 200) ({ state } = JSON.parse(answer.text) as { state: string })
      }
    }
  }

  const all = Promise.all(Array.from({ length: clients }, (_, name) => client(name)))
  all.catch(() => {
    hasFailed = true
    over.abort()
  })
  return {
    get hasFailed() {
      return hasFailed
    },
    async stop() {
      over.abort()
      await all
      return { accepted, answers, unclear }
    },
  }
}
