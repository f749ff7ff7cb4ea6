/**
 * How a command of the command line talks to the running server of the same data folder: one JSON line each way over
 * a socket that only this user can open. Only one process has an embedded database open, so a command that needs it
 * asks that process first, and opens the database itself when nobody answers.
 */
import { createHash } from 'node:crypto'
import { chmodSync, lstatSync, mkdirSync, rmSync } from 'node:fs'
import { createConnection, createServer, type Socket } from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { StorageError, failedWith } from './errors.ts'

export type ControlHandlers = Readonly<Record<string, (args: unknown) => unknown>>

export type ControlAnswer =
  | { readonly state: 'answered'; readonly result: unknown }
  /** No server runs on this data folder. */
  | { readonly state: 'no_server' }

interface Call {
  readonly command: string
  readonly args: unknown
}
type Reply = { readonly result: unknown } | { readonly error: string }

/** `sockaddr_un.sun_path` holds 104 bytes on macOS and 108 on Linux, with the closing zero. */
const maxSocketPathBytes = 103

/** In the data folder; where its path is too long for a socket, in a folder of this user's under the system's temporary one. */
export function controlPath(dataDir: string): string {
  const name = createHash('sha256').update(resolve(dataDir)).digest('hex').slice(0, 24)
  if (process.platform === 'win32') return `\\\\.\\pipe\\atelier-${name}`
  const inside = join(resolve(dataDir), 'control.sock')
  if (Buffer.byteLength(inside) <= maxSocketPathBytes) return inside
  return join(tmpdir(), `atelier-${userInfo().uid}`, `${name}.sock`)
}

/**
 * Answers commands until closed. The caller holds the data folder's lock: a socket file that is there already was
 * left by a process that is gone, and is replaced.
 */
export async function serveControl(
  dataDir: string,
  handlers: ControlHandlers,
): Promise<{ close(): Promise<void> }> {
  const path = controlPath(dataDir)
  if (process.platform !== 'win32') {
    makePrivateFolder(dirname(path), resolve(dataDir))
    rmSync(path, { force: true })
  }
  const open = new Set<Socket>()
  const server = createServer((socket) => {
    open.add(socket)
    socket.on('close', () => open.delete(socket))
    socket.on('error', () => socket.destroy()) // a caller that went away needs no answer
    createInterface({ input: socket }).once('line', (line) => {
      void answer(line, handlers).then((reply) => socket.end(`${JSON.stringify(reply)}\n`))
    })
  })
  await new Promise<void>((listening, failed) => {
    server.once('error', failed)
    server.listen(path, listening)
  })
  if (process.platform !== 'win32') chmodSync(path, 0o600)
  return {
    async close() {
      const closed = new Promise<void>((done) => {
        server.close(() => done())
      })
      for (const socket of open) socket.destroy()
      await closed
    },
  }
}

async function answer(line: string, handlers: ControlHandlers): Promise<Reply> {
  try {
    const { command, args } = JSON.parse(line) as Call
    const handler = Object.hasOwn(handlers, command) ? handlers[command] : undefined
    if (!handler) return { error: `the running server knows no command ${JSON.stringify(command)}` }
    return { result: (await handler(args)) ?? null }
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) }
  }
}

/** @throws {StorageError} `control_failed` when the server refuses the command or hangs up */
export async function callControl(dataDir: string, command: string, args: unknown): Promise<ControlAnswer> {
  const socket = await connect(controlPath(dataDir))
  if (!socket) return { state: 'no_server' }
  try {
    const call: Call = { command, args }
    socket.write(`${JSON.stringify(call)}\n`)
    for await (const line of createInterface({ input: socket })) {
      const reply = JSON.parse(line) as Reply
      if ('error' in reply) throw new StorageError('control_failed', reply.error)
      return { state: 'answered', result: reply.result }
    }
    throw new StorageError('control_failed', `the running server hung up on the command ${command}`)
  } finally {
    socket.destroy()
  }
}

/** @returns undefined when nobody listens: no socket, or one whose server is gone */
function connect(path: string): Promise<Socket | undefined> {
  return new Promise((connected, failed) => {
    const socket = createConnection(path)
    socket.once('connect', () => connected(socket))
    socket.once('error', (error) => {
      if (failedWith(error, 'ENOENT', 'ECONNREFUSED', 'ENOTDIR')) connected(undefined)
      else failed(error)
    })
  })
}

/** Another user's folder of that name under the temporary one would let them answer in the server's place. */
function makePrivateFolder(folder: string, dataDir: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  if (folder === dataDir) return
  const { uid, mode } = lstatSync(folder)
  if (uid !== userInfo().uid || (mode & 0o077) !== 0) {
    throw new StorageError(
      'control_failed',
      `${folder} must belong to this user alone: remove it, or use a shorter data folder`,
    )
  }
}
