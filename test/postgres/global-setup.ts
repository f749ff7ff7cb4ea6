/** One PostgreSQL server for all test files of a run, started when the first of them asks for a database. */
import { rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestProject } from 'vitest/node'
import { startPostgres, type PostgresServer } from './server.ts'

declare module 'vitest' {
  interface ProvidedContext {
    /** Where databases are asked for. */
    postgresSocket: string
    /** Which database tests of both run on. */
    database: 'embedded' | 'server'
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const path = join(tmpdir(), `atelier-test-${process.pid}-${project.name || 'all'}.sock`)
  let starting: Promise<PostgresServer> | undefined
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy())
    starting ??= startPostgres()
    starting
      .then((postgres) => postgres.createDatabase())
      .then(
        (url) => socket.end(JSON.stringify({ url })),
        (error: unknown) => socket.end(JSON.stringify({ error: String(error) })),
      )
  })
  rmSync(path, { force: true })
  await new Promise<void>((listening) => {
    server.listen(path, listening)
  })
  project.provide('postgresSocket', path)
  return async () => {
    server.close()
    await (await starting?.catch(() => undefined))?.stop()
  }
}
