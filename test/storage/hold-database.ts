/** Opens the database of a folder, says so, and holds it until killed. */
import { openEmbeddedDatabase } from '../../src/storage/database.ts'

const [dataDir] = process.argv.slice(2)
if (dataDir === undefined) throw new Error('usage: hold-database.ts FOLDER')
await openEmbeddedDatabase(dataDir)
console.log('open')
setInterval(() => undefined, 60_000)
