/** A real PostgreSQL server on loopback, small and without promises to the disk, that goes when its starter does. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { findBinaries, type Binaries } from './binaries.ts'

export interface PostgresServer {
  readonly port: number
  /** Makes a new, empty database. @returns its URL */
  createDatabase(): Promise<string>
  /** Ends it at once, as a crash does. */
  kill(): Promise<void>
  /** Stops all of its processes where they are, until `resume`. */
  pause(): void
  resume(): void
  /** Starts it again after `kill`, with all that it had. */
  start(): Promise<void>
  stop(): Promise<void>
}

const password = 'of-a-test'

const settings = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  dynamic_shared_memory_type: 'mmap',
  shared_buffers: '16MB',
  max_connections: '200',
  // What is committed is in the system's hands: that survives a killed server, though not a machine without power.
  fsync: 'off',
  full_page_writes: 'off',
}

/** Ends the server when the standard input closes, which it does however the starter ends. */
const guard = '"$@" & server=$!; cat > /dev/null; kill -INT $server; wait $server'

export async function startPostgres(): Promise<PostgresServer> {
  const binaries = findBinaries()
  const folder = mkdtempSync(join(tmpdir(), 'atelier-postgres-'))
  const port = await freePort()
  initialise(binaries, folder)
  let running = await run(binaries, folder, port)
  let databases = 0
  const stop = async () => {
    if (running.exitCode !== null) return
    const ended = once(running, 'exit')
    running.stdin?.end()
    await ended
  }
  return {
    port,
    async createDatabase() {
      const name = `test_${process.pid}_${Date.now()}_${databases++}`
      const client = new pg.Client(urlOf(port, 'postgres'))
      await client.connect()
      await client.query(`CREATE DATABASE ${name}`)
      await client.end()
      return urlOf(port, name)
    },
    async kill() {
      signalAll(folder, 'SIGKILL')
      await stop()
    },
    pause: () => signalAll(folder, 'SIGSTOP'),
    resume: () => signalAll(folder, 'SIGCONT'),
    async start() {
      running = await run(binaries, folder, port)
    },
    async stop() {
      await stop()
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
      binaries.remove()
    },
  }
}

/** The first of them makes the others: when it is stopped there come no more. */
function signalAll(folder: string, signal: NodeJS.Signals): void {
  const [first] = readFileSync(join(folder, 'data', 'postmaster.pid'), 'utf8').split('\n')
  for (const pid of [Number(first), ...childrenOf(Number(first))]) {
    try {
      process.kill(pid, signal)
    } catch {
      // It has ended since.
    }
  }
}

/** Where the system tells; elsewhere they end by themselves when the first of them has. */
function childrenOf(pid: number): number[] {
  const list = `/proc/${pid}/task/${pid}/children`
  return existsSync(list) ? readFileSync(list, 'utf8').trim().split(' ').filter(Boolean).map(Number) : []
}

const urlOf = (port: number, name: string): string =>
  `postgres://postgres:${password}@127.0.0.1:${port}/${name}`

function initialise({ initdb, user }: Binaries, folder: string): void {
  if (user.uid !== undefined && user.gid !== undefined) chownSync(folder, user.uid, user.gid)
  const { status, stderr } = spawnSync(
    'sh',
    [
      '-c',
      `echo ${password} > password && exec "$0" -D data -U postgres --pwfile=password --auth=scram-sha-256 -E UTF8 --locale=C --no-sync`,
      initdb,
    ],
    { ...user, cwd: folder, encoding: 'utf8' },
  )
  if (status !== 0) throw new Error(`initdb ended with ${status}: ${stderr}`)
}

async function run({ postgres, user }: Binaries, folder: string, port: number): Promise<ChildProcess> {
  const options = Object.entries({ ...settings, port }).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const server = spawn('sh', ['-c', guard, 'sh', postgres, '-D', 'data', ...options], {
    ...user,
    cwd: folder,
    stdio: ['pipe', 'ignore', 'pipe'],
  })
  const said: string[] = []
  server.stderr.on('data', (text: Buffer) => said.push(String(text)))
  for (const sinceMs = Date.now(); ;) {
    const client = new pg.Client(urlOf(port, 'postgres'))
    try {
      await client.connect()
      await client.end()
      return server
    } catch (error) {
      if (Date.now() - sinceMs > 60_000)
        throw new Error(`PostgreSQL does not start:\n${said.join('')}`, { cause: error })
      await sleep(100)
    }
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  return port
}
