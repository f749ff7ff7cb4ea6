/** Temporary folders and child processes that a test file cleans up behind itself. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll } from 'vitest'

const folders: string[] = []
const children: Child[] = []

afterAll(async () => {
  for (const child of children) await child.kill()
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

/** A new folder, removed after the file's tests. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'atelier-storage-test-'))
  folders.push(folder)
  return folder
}

export interface Child {
  readonly process: ChildProcess
  readonly pid: number
  /** The lines it prints, as they come. */
  readonly lines: AsyncIterator<string>
  /** Kills it as the operating system would, and waits until it is gone. */
  kill(): Promise<void>
}

/** Runs a script of the tests in a process of its own; what it says on stderr is shown. */
export function startChild(script: string, args: readonly string[]): Child {
  const started = spawn(process.execPath, [script, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  const gone = once(started, 'close')
  const child: Child = {
    process: started,
    pid: started.pid!,
    lines: createInterface({ input: started.stdout })[Symbol.asyncIterator](),
    async kill() {
      started.kill('SIGKILL')
      await gone
    },
  }
  children.push(child)
  return child
}
