/** A small balancer as a cluster has one: it asks every server whether it is ready, and sends requests in turn to those that are. */
import { once } from 'node:events'
import { Agent, createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Balancer extends AsyncDisposable {
  readonly url: string
  /** From now on it is asked and, when ready, used. */
  add(url: string): void
  remove(url: string): void
  isUsed(url: string): boolean
}

const askEveryMs = 200

export async function startBalancer(): Promise<Balancer> {
  // Connections are kept, as balancers do.
  const agent = new Agent({ keepAlive: true })
  const ready = new Map<string, boolean>()
  let turn = 0

  const server = createServer((incoming, outgoing) => {
    const used = [...ready].flatMap(([url, isReady]) => (isReady ? [url] : []))
    const target = used[turn++ % used.length]
    if (target === undefined) return outgoing.writeHead(502).end('no server is ready')
    const { method, url, headers } = incoming
    const { connection: _, ...passed } = headers
    const forward = request(new URL(url ?? '/', target), { agent, method, headers: passed }, (answer) => {
      const { connection: _, ...told } = answer.headers
      outgoing.writeHead(answer.statusCode ?? 502, told)
      answer.pipe(outgoing)
      answer.once('error', () => outgoing.destroy())
    })
    forward.once('error', (error) => {
      if (outgoing.headersSent) outgoing.destroy()
      else outgoing.writeHead(502).end(`${target}: ${error.message}`)
    })
    return incoming.pipe(forward)
  })
  const askAll = () => {
    for (const url of ready.keys()) {
      fetch(`${url}/readyz`).then(
        ({ ok }) => ready.has(url) && ready.set(url, ok),
        () => ready.has(url) && ready.set(url, false),
      )
    }
  }
  const timer = setInterval(askAll, askEveryMs)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    add: (url) => void ready.set(url, false),
    remove: (url) => void ready.delete(url),
    isUsed: (url) => ready.get(url) === true,
    async [Symbol.asyncDispose]() {
      clearInterval(timer)
      agent.destroy()
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}
