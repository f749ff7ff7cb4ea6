/** An S3 server in this process, with one bucket. It keeps checksums, and asks for no credentials. */
import { startFauxqs, type FauxqsServer } from 'fauxqs'
import type { S3Options } from '../../src/storage/s3-blobs.ts'
import { temporaryFolder } from './folders.ts'

export interface S3Server {
  readonly endpoint: string
  readonly options: S3Options
  stop(): Promise<void>
}

export const bucket = 'pictures'

export async function startS3Server(): Promise<S3Server> {
  process.env['AWS_ACCESS_KEY_ID'] = 'test'
  process.env['AWS_SECRET_ACCESS_KEY'] = 'test'
  const server: FauxqsServer = await startFauxqs({
    port: 0,
    logger: false,
    s3StorageDir: temporaryFolder(),
  })
  server.createBucket(bucket)
  const endpoint = `http://127.0.0.1:${server.port}`
  return {
    endpoint,
    options: {
      bucket,
      prefix: 'atelier/blobs',
      region: 'eu-central-1',
      endpoint,
      pathStyle: true,
      presign: false,
      installation: 'here',
    },
    stop: () => server.stop(),
  }
}
