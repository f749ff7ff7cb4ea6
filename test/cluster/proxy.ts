/** A line between a process and a server that fails as lines do: it is cut, or it stands still and goes on later. */
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

export interface Proxy {
  readonly port: number
  /** Hangs up on everybody, and on whoever comes. */
  cut(): void
  /** Passes nothing on, and hangs up on nobody. What was sent meanwhile arrives after `mend`. */
  stall(): void
  mend(): void
  close(): Promise<void>
}

interface Line {
  readonly ends: readonly [Socket, Socket]
}

export async function startProxy(target: { readonly port: number }): Promise<Proxy> {
  const lines = new Set<Line>()
  let state: 'whole' | 'cut' | 'stalled' = 'whole'
  const hangUp = ({ ends }: Line) => ends.forEach((end) => end.destroy())
  const flow = ({ ends: [client, server] }: Line) => {
    client.pipe(server)
    server.pipe(client)
  }
  const stand = ({ ends }: Line) =>
    ends.forEach((end) => {
      end.unpipe()
      end.pause()
    })
  const proxy = createServer({ pauseOnConnect: true }, (client) => {
    if (state === 'cut') return void client.destroy()
    const line: Line = { ends: [client, connect(target.port, '127.0.0.1')] }
    lines.add(line)
    for (const end of line.ends) {
      end.setNoDelay(true)
      end.on('error', () => hangUp(line))
      end.on('close', () => {
        hangUp(line)
        lines.delete(line)
      })
    }
    if (state === 'stalled') stand(line)
    else flow(line)
  }).listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  return {
    port: (proxy.address() as AddressInfo).port,
    cut() {
      state = 'cut'
      for (const line of lines) hangUp(line)
    },
    stall() {
      state = 'stalled'
      for (const line of lines) stand(line)
    },
    mend() {
      const was = state
      state = 'whole'
      if (was === 'stalled') for (const line of lines) flow(line)
    },
    async close() {
      const closed = once(proxy, 'close')
      proxy.close()
      for (const line of lines) hangUp(line)
      await closed
    },
  }
}
