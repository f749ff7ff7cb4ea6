/** Whether the configured address can be listened on, and may be, asked before anything that takes time is started. */
import { lookup } from 'node:dns/promises'
import { BlockList, createServer } from 'node:net'
import { Keys } from '../access/keys.ts'
import type { Config } from '../config.ts'
import type { Storage } from '../storage/storage.ts'

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

/** A service that asks nobody for a key is for its own machine. @throws {Error} one line that says how to make a key */
export async function checkExposure(
  { host }: Pick<Config, 'host'>,
  opening: Promise<Pick<Storage, 'database'>>,
): Promise<void> {
  if (await isLoopback(host)) return
  const { database } = await opening
  if (await new Keys(database).any()) return
  throw new Error(
    `ATELIER_HOST: expected an address of this machine alone, such as 127.0.0.1, while there are no keys, got ${host}; make one with "atelier key create --name NAME"`,
  )
}

const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')

async function isLoopback(host: string): Promise<boolean> {
  const addresses = await lookup(host, { all: true })
  return addresses.every(({ address, family }) => loopback.check(address, family === 6 ? 'ipv6' : 'ipv4'))
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
