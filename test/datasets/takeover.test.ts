/** Property: a process that was stopped while it checked a dataset writes nothing into what another has taken over. */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test } from 'vitest'
import { openStorage } from '../../src/storage/storage.ts'
import { serverDatabase } from '../postgres/database.ts'
import { temporaryFolder } from '../storage/folders.ts'
import { tar } from './archives.ts'
import { filesBelow } from './fixture.ts'
import { picture } from './pictures.ts'

const patience = { timeout: 90_000, interval: 20 }
const script = fileURLToPath(new URL('intake-child.ts', import.meta.url))
const pictures = 1_200

function start(...words: readonly string[]): ChildProcess {
  const child = fork(script, words)
  onTestFinished(() => void child.kill('SIGKILL'))
  return child
}

const told = async (child: ChildProcess): Promise<string> => ((await once(child, 'message')) as [string])[0]

test('who was stopped in the middle of a check finds the dataset as another made it ready, and leaves it so', async () => {
  const dataDir = temporaryFolder()
  const databaseUrl = await serverDatabase()
  const archive = join(dataDir, 'archive.tar')
  const data = await Promise.all(
    Array.from({ length: pictures }, (_, seed) => picture(seed, { width: 24 + Math.floor(seed / 256) })),
  )
  writeFileSync(archive, tar(data.map((bytes, index) => ({ name: `${index}.png`, data: bytes }))))
  const onError = (error: Error) => {
    throw error
  }
  const storage = await openStorage({ dataDir, databaseUrl, kind: 'api', onError })
  onTestFinished(() => storage.close())
  const { prisma } = storage.database
  const present = () => prisma.process.count({ where: { goneAt: null } })

  const stopped = start(dataDir, databaseUrl, archive)
  const id = await told(stopped)
  const look = () => prisma.dataset.findUniqueOrThrow({ where: { id } })
  await expect.poll(async () => (await look()).filesRead, patience).toBeGreaterThan(0)
  stopped.kill('SIGSTOP')
  const before = await look()
  expect(before.state).toBe('validating')

  const other = start(dataDir, databaseUrl)
  expect(await told(other)).toBe('ready')
  await expect.poll(async () => (await look()).state, patience).toBe('ready')
  const ready = await look()
  expect(ready).toMatchObject({ attempt: 2, items: pictures })
  expect(ready.heldBy).not.toBe(before.heldBy)
  const files = () => filesBelow(join(dataDir, 'datasets', id)).filter((file) => file.includes('/pictures/'))
  expect(files()).toHaveLength(pictures)

  const left = told(stopped)
  stopped.kill('SIGCONT')
  expect(await left).toBe('left')
  await expect.poll(present, patience).toBe(3)
  expect(await look()).toEqual(ready)
  expect(await prisma.datasetItem.count({ where: { datasetId: id } })).toBe(pictures)
  await expect.poll(() => filesBelow(join(dataDir, 'datasets', id)), patience).toEqual(files())
  expect(files()).toHaveLength(pictures)
})
