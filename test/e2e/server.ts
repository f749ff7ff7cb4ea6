/** Starts the real service as a user does, in a folder of its own, and knows its processes. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const entry = fileURLToPath(new URL('../../bin/atelier.mjs', import.meta.url))

export interface Server {
  readonly url: string
  readonly pid: number
  readonly dataDir: string
  /** What it wrote to standard output and error so far, by line. */
  readonly output: readonly string[]
  /** Resolves with its exit status when it has ended, whoever told it to. */
  ended(): Promise<number | null>
  /** Ends it as an operator does and resolves with its exit status. */
  stop(): Promise<number | null>
  /** Kills it outright. */
  kill(): Promise<void>
}

export interface ServerOptions {
  /** Which part of the service; all of it, unless told. */
  readonly command?: 'serve' | 'api' | 'worker'
  readonly dataDir: string
  readonly environment?: Readonly<Record<string, string>>
}

/** Resolves when the service has printed its address. @throws with its output when it ends before that */
export async function startServer({
  command = 'serve',
  dataDir,
  environment = {},
}: ServerOptions): Promise<Server> {
  const child = spawn(process.execPath, [entry, command], {
    env: {
      ...withoutOurs(process.env),
      ATELIER_PORT: '0',
      ATELIER_DATA_DIR: dataDir,
      // The smallest, unless a test is about another.
      ATELIER_MODEL: 'tiny',
      ...environment,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const output: string[] = []
  const url = await new Promise<string>((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => {
        output.push(line)
        const address = /^Atelier\b.* at (http:\S+)$/.exec(line)?.[1]
        if (address) resolve(address)
      })
    }
    child.once('exit', (code, signal) =>
      reject(new Error(`the server ended with ${signal ?? code}:\n${output.join('\n')}`)),
    )
  })
  const ended = async (): Promise<number | null> => {
    if (!hasExited(child)) await once(child, 'exit')
    return child.exitCode
  }
  return {
    url,
    pid: child.pid!,
    dataDir,
    output,
    ended,
    async stop() {
      child.kill('SIGTERM')
      return ended()
    },
    async kill() {
      child.kill('SIGKILL')
      await ended()
    },
  }
}

const hasExited = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null

/** The developer's own settings must not reach the server under test. */
function withoutOurs(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => !name.startsWith('ATELIER_')))
}

/** A folder that is gone when the block is left: `await using`. */
export async function temporaryFolder(): Promise<{ path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), 'atelier-'))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true, maxRetries: 5 }) }
}

/** The processes that this one started and that still run (Linux). */
export async function childrenOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')
  return text.trim().split(' ').filter(Boolean).map(Number)
}
