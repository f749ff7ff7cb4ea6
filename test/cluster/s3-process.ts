/** `s3-child.ts` from outside: killed and started again with what it had. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

export interface S3Process {
  readonly port: number
  signal(signal: NodeJS.Signals): void
  kill(): Promise<void>
  /** After `kill`. */
  start(): Promise<void>
}

const script = fileURLToPath(new URL('s3-child.ts', import.meta.url))

export async function startS3Process(folder: string): Promise<S3Process> {
  let port = 0
  let child: ChildProcess
  const start = async () => {
    child = spawn(process.execPath, [script, folder, String(port), 'pictures'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const { value } = await createInterface({ input: child.stdout! })[Symbol.asyncIterator]().next()
    port = Number(value)
  }
  await start()
  return {
    get port() {
      return port
    },
    signal: (signal) => void child.kill(signal),
    async kill() {
      if (child.exitCode !== null || child.signalCode !== null) return
      const gone = once(child, 'exit')
      child.kill('SIGKILL')
      await gone
    },
    start,
  }
}
