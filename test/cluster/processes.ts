/** API and worker processes as they are deployed, each with lines of its own to the database and to S3. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { startProxy, type Proxy } from './proxy.ts'

const entry = fileURLToPath(new URL('../../bin/atelier.mjs', import.meta.url))
const ready = /^Atelier's (?:API listens|worker .*) at (http:\S+)$/

export interface Surroundings {
  readonly dataDir: string
  readonly databaseUrl: string
  readonly s3Port: number
  readonly environment?: Readonly<Record<string, string>>
}

export interface ServiceProcess {
  readonly kind: 'api' | 'worker'
  /** Of an API that listens, or did before it was killed. */
  readonly url: string
  readonly pid: number
  readonly database: Proxy
  readonly s3: Proxy
  /** The last lines that it wrote. */
  readonly output: readonly string[]
  isAlive(): boolean
  signal(signal: NodeJS.Signals): void
  /** As the system would, and waits until it is gone. */
  kill(): Promise<void>
  /** After `kill`. Resolves when it is ready. */
  start(): Promise<void>
  close(): Promise<void>
}

const keptLines = 200

export async function startProcess(
  kind: 'api' | 'worker',
  { dataDir, databaseUrl, s3Port, environment = {} }: Surroundings,
): Promise<ServiceProcess> {
  const database = await startProxy({ port: Number(new URL(databaseUrl).port) })
  const s3 = await startProxy({ port: s3Port })
  const url = new URL(databaseUrl)
  url.port = String(database.port)
  const output: string[] = []
  let child: ChildProcess
  let address = ''

  /** It goes on trying while what it needs is away, as whoever runs it would see to. */
  async function start(): Promise<void> {
    for (;;) {
      child = spawn(process.execPath, [entry, kind], {
        env: {
          ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('ATELIER_'))),
          AWS_ACCESS_KEY_ID: 'test',
          AWS_SECRET_ACCESS_KEY: 'test',
          ATELIER_PORT: '0',
          ATELIER_DATA_DIR: dataDir,
          ATELIER_DATABASE_URL: url.href,
          ATELIER_BLOBS: 's3://pictures/atelier',
          ATELIER_S3_ENDPOINT: `http://127.0.0.1:${s3.port}`,
          ...environment,
        },
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      const started = child
      const listening = new Promise<boolean>((resolve) => {
        for (const stream of [started.stdout!, started.stderr!]) {
          createInterface({ input: stream }).on('line', (line) => {
            output.push(line)
            if (output.length > keptLines) output.shift()
            const found = ready.exec(line)?.[1]
            if (found === undefined) return
            address = found
            resolve(true)
          })
        }
        started.once('exit', () => resolve(false))
      })
      if ((await listening) || started.signalCode === 'SIGKILL') return
    }
  }

  const isAlive = () => child.exitCode === null && child.signalCode === null
  const kill = async () => {
    const exited = isAlive() ? once(child, 'exit') : undefined
    child.kill('SIGKILL')
    await exited
  }
  await start()
  return {
    kind,
    get url() {
      return address
    },
    get pid() {
      return child.pid!
    },
    database,
    s3,
    output,
    isAlive,
    signal: (signal) => void child.kill(signal),
    kill,
    start,
    async close() {
      await kill()
      await Promise.all([database.close(), s3.close()])
    },
  }
}
