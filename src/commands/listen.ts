/** Whether the configured address can be listened on, asked before anything that takes time is started. */
import { createServer } from 'node:net'
import type { Config } from '../config.ts'

/** @throws {Error} one line that names the setting, what was expected and what came */
export async function checkAddress({ host, port }: Pick<Config, 'host' | 'port'>): Promise<void> {
  const server = createServer()
  try {
    await new Promise<void>((listening, failed) => {
      server.once('error', failed)
      server.listen({ host, port }, listening)
    })
  } catch (error) {
    throw new Error(explain(error, host, port), { cause: error })
  }
  await new Promise<void>((closed) => {
    server.close(() => closed())
  })
}

function explain(error: unknown, host: string, port: number): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  switch (code) {
    case 'EADDRINUSE':
      return `ATELIER_PORT: expected a free port, and ${port} on ${host} is in use by another process`
    case 'EACCES':
      return `ATELIER_PORT: expected a port that this user may listen on, got ${port}`
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return `ATELIER_HOST: expected an address of this machine, got ${host}`
    default:
      return `cannot listen on ${host}:${port}: ${error instanceof Error ? error.message : String(error)}`
  }
}
