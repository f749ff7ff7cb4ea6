/** A process that receives and checks datasets beside others on one database, until it is told to end. */
import { createReadStream } from 'node:fs'
import { pino } from 'pino'
import { defaultProject } from '../../src/access/project.ts'
import { startDatasetService } from '../../src/datasets/service.ts'
import { openStorage } from '../../src/storage/storage.ts'

const [dataDir, databaseUrl, archive] = process.argv.slice(2)
if (dataDir === undefined || databaseUrl === undefined)
  throw new Error('usage: intake-child.ts FOLDER URL [ARCHIVE]')
const log = pino({ level: process.env['ATELIER_TEST_LOG'] ?? 'silent' }, pino.destination(2))
const storage = await openStorage({
  dataDir,
  databaseUrl,
  kind: 'api',
  onError: (error) => log.warn({ err: error }, 'the database reports'),
})
const service = await startDatasetService({ storage, log, dataDir, foldersRoot: '' })
process.on('disconnect', () => process.exit())
if (archive === undefined) process.send!('ready')
else {
  const mine = service.of({ project: defaultProject })
  const { id } = await mine.upload({ name: 'a set' }, { stream: createReadStream(archive) })
  process.send!(id)
  await mine.settled(id)
  process.send!('left')
}
