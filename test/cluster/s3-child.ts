/** An S3 server in a process of its own, which keeps what it has when it is killed. */
import { startFauxqs } from 'fauxqs'

const [folder, port, bucket] = process.argv.slice(2)
if (folder === undefined || bucket === undefined) throw new Error('usage: s3-child.ts FOLDER PORT BUCKET')
const server = await startFauxqs({
  port: Number(port),
  logger: false,
  dataDir: folder,
  s3StorageDir: `${folder}/objects`,
})
try {
  server.createBucket(bucket)
} catch {
  // It is there since the first start.
}
console.log(server.port)
