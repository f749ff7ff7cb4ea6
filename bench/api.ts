/** What the API adds to a read of the database: `GET /v1/generations/{id}` beside a bare Fastify route doing the same Prisma read. */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { Agent, get, type IncomingMessage } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { startPostgres } from '../test/postgres/server.ts'
import { summarise, type Benchmark } from './report.ts'
import { temporaryFolder } from './temporary-folder.ts'

type Options = Readonly<Record<'requests' | 'rounds' | 'connections', number>>

/** What the process that serves both tells its parent. */
export interface Serving {
  /** With a scheme and a path. */
  readonly ours: string
  readonly bare: string
  readonly authorization: string
}

const script = fileURLToPath(new URL('api-server.ts', import.meta.url))

export const api: Benchmark<Options> = {
  name: 'api',
  description: 'requests per second of GET /v1/generations/{id} on one core, beside a bare Fastify route',
  options: {
    requests: { description: 'of each of the two, in every round', fallback: 1_000 },
    rounds: { description: 'how often each is measured, one after the other', fallback: 9 },
    connections: { description: 'that ask at the same time', fallback: 16 },
  },
  async run({ requests, rounds, connections }, tell) {
    tell('starting PostgreSQL')
    const postgres = await startPostgres()
    const child = fork(script, [await postgres.createDatabase(), temporaryFolder()])
    const agent = new Agent({ keepAlive: true, maxSockets: connections })
    try {
      const [serving] = (await once(child, 'message')) as [Serving]
      const spentMs = async (): Promise<number> => {
        child.send('cpu')
        const [ms] = (await once(child, 'message')) as [number]
        return ms
      }
      /** @returns milliseconds of a core that one request takes */
      const measure = async (url: string): Promise<number> => {
        const before = await spentMs()
        await ask(url, requests, { agent, connections, authorization: serving.authorization })
        return ((await spentMs()) - before) / requests
      }
      tell('warming up')
      for (const url of [serving.ours, serving.bare]) await measure(url)
      const [ours, bare]: [number[], number[]] = [[], []]
      for (let round = 1; round <= rounds; round++) {
        ours.push(await measure(serving.ours))
        bare.push(await measure(serving.bare))
        tell(`round ${round} of ${rounds}: ${ours.at(-1)!.toFixed(3)} and ${bare.at(-1)!.toFixed(3)} ms`)
      }
      const perSecond = (values: readonly number[]) => Math.round(1_000 / summarise(values).median)
      return {
        method: [
          `${rounds} rounds of ${requests} requests over ${connections} connections to each route, in turns, both in one process over one Prisma client and PostgreSQL.`,
          'A core’s requests per second: 1 ÷ the processor time that the process spends on one, so that what else runs on the machine counts little.',
          'Ours: a key that is looked up and counted, limits, headers, log lines into a file, signed address of the picture. Bare: the row and its picture as JSON.',
        ],
        figures: [
          { name: 'GET /v1/generations/{id}', unit: 'ms', values: ours },
          { name: 'a bare route', unit: 'ms', values: bare },
        ],
        tables: [
          {
            title: 'requests per second of one core',
            columns: ['GET /v1/generations/{id}', 'a bare route'],
            rows: [[perSecond(ours), perSecond(bare)]],
          },
        ],
        requirements: [
          {
            what: 'requests per second, of the bare route’s',
            value: summarise(bare).median / summarise(ours).median,
            unit: '×',
            atLeast: 0.8,
          },
        ],
      }
    } finally {
      agent.destroy()
      const gone = once(child, 'exit')
      if (child.connected) child.disconnect()
      await gone
      await postgres.stop()
    }
  },
}

interface Asking {
  readonly agent: Agent
  readonly connections: number
  readonly authorization: string
}

async function ask(
  url: string,
  requests: number,
  { agent, connections, authorization }: Asking,
): Promise<void> {
  let left = requests
  const askOn = async (): Promise<void> => {
    while (left-- > 0) {
      const request = get(url, { agent, headers: { authorization } })
      const [response] = (await once(request, 'response')) as [IncomingMessage]
      const bytes = await buffer(response)
      if (response.statusCode !== 200) throw new Error(`${url}: ${response.statusCode} ${bytes.toString()}`)
    }
  }
  await Promise.all(Array.from({ length: connections }, askOn))
}
