/**
 * Blobs as objects of a bucket, below a prefix. Every upload carries a checksum that the storage keeps, and a blob that is
 * read whole is held against it. Large ones go up in parts; an upload that fails takes its parts away.
 */
import type { Readable } from 'node:stream'
import {
  AbortMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  S3ServiceException,
} from '@aws-sdk/client-s3'
import { Upload } from '@aws-sdk/lib-storage'
import { getSignedUrl } from '@aws-sdk/s3-request-presigner'
import {
  checkBlobKey,
  isBlobKey,
  newBlobKey,
  ownerOf,
  type BlobKind,
  type BlobLink,
  type BlobStore,
  type ByteRange,
  type StoredBlob,
} from './blobs.ts'
import { StorageError } from './errors.ts'

export interface S3Options {
  readonly bucket: string
  /** Without slashes around it; may be empty. */
  readonly prefix: string
  readonly region: string
  /** Undefined means Amazon's own. */
  readonly endpoint: string | undefined
  /** Whether the bucket is named in the path rather than in the host. */
  readonly pathStyle: boolean
  /** Whether clients can reach the storage, and are given links to it. */
  readonly presign: boolean
  /** Names the database whose rows tell of the blobs. */
  readonly installation: string
}

/** The longest that one call may take, its retries included; what is read may take longer to arrive. */
const callTimeoutMs = 60_000
const connectTimeoutMs = 3_000
/** Without a byte. */
const silenceTimeoutMs = 20_000
const attempts = 4
const partBytes = 8 * 2 ** 20
const partsAtOnce = 3

export class S3Blobs implements BlobStore {
  readonly #client: S3Client
  readonly #options: S3Options

  private constructor(client: S3Client, options: S3Options) {
    this.#client = client
    this.#options = options
  }

  /**
   * Credentials come from where Amazon's tools look for them: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or the
   * machine's own role.
   * @throws {StorageError} `blobs_unavailable` or `blobs_foreign`, saying what was expected
   */
  static async open(options: S3Options): Promise<S3Blobs> {
    const { endpoint, region, pathStyle } = options
    const client = new S3Client({
      region,
      forcePathStyle: pathStyle,
      maxAttempts: attempts,
      requestHandler: {
        connectionTimeout: connectTimeoutMs,
        requestTimeout: silenceTimeoutMs,
        throwOnRequestTimeout: true,
        socketTimeout: silenceTimeoutMs,
      },
      ...(endpoint === undefined ? {} : { endpoint }),
    })
    const blobs = new S3Blobs(client, options)
    try {
      await blobs.#claim()
      return blobs
    } catch (error) {
      client.destroy()
      throw error
    }
  }

  async put(bytes: Uint8Array, kind: BlobKind): Promise<string> {
    const key = newBlobKey(kind)
    const object = { ...this.#object(key), Body: bytes, ContentType: 'application/octet-stream' }
    await this.#call(`store ${key}`, async (abortSignal) => {
      if (bytes.length <= partBytes) return this.#client.send(new PutObjectCommand(object), { abortSignal })
      const upload = new Upload({
        client: this.#client,
        params: object,
        partSize: partBytes,
        queueSize: partsAtOnce,
        leavePartsOnError: false,
      })
      abortSignal.addEventListener('abort', () => void upload.abort())
      return upload.done()
    })
    return key
  }

  async open(key: string, range?: ByteRange): Promise<Readable> {
    const object = this.#object(key)
    const { Body } = await this.#call(`read ${key}`, (abortSignal) =>
      this.#client.send(
        // Of a part there is no checksum.
        new GetObjectCommand(
          range
            ? { ...object, Range: `bytes=${range.start}-${range.end}` }
            : { ...object, ChecksumMode: 'ENABLED' },
        ),
        { abortSignal },
      ),
    )
    return Body as Readable // as it is in Node
  }

  async delete(key: string): Promise<void> {
    const object = this.#object(key)
    await this.#call(`delete ${key}`, (abortSignal) =>
      this.#client.send(new DeleteObjectCommand(object), { abortSignal }),
    )
  }

  async *list(): AsyncIterable<StoredBlob> {
    const { bucket } = this.#options
    const prefix = this.#name('')
    let token: string | undefined
    do {
      const ContinuationToken = token
      const page = await this.#call('list', (abortSignal) =>
        this.#client.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, ContinuationToken }), {
          abortSignal,
        }),
      )
      for (const { Key = '', LastModified } of page.Contents ?? []) {
        const key = Key.slice(prefix.length)
        if (isBlobKey(key) && LastModified) yield { key, owner: ownerOf(key), storedAt: LastModified }
      }
      token = page.NextContinuationToken
    } while (token !== undefined)
  }

  async link(key: string, { expiresAt, contentType, fileName }: BlobLink): Promise<string | undefined> {
    if (!this.#options.presign) return undefined
    const command = new GetObjectCommand({
      ...this.#object(key),
      ResponseContentType: contentType,
      ResponseContentDisposition: `inline; filename="${fileName}"`,
    })
    const expiresIn = Math.ceil((expiresAt.getTime() - Date.now()) / 1000)
    return getSignedUrl(this.#client, command, { expiresIn })
  }

  /** Objects appear whole; of uploads in parts that a kill cut short the storage keeps the parts. */
  async removeUnfinished(before: Date): Promise<void> {
    const { bucket: Bucket } = this.#options
    const Prefix = this.#name('')
    let markers: { KeyMarker?: string | undefined; UploadIdMarker?: string | undefined } = {}
    for (;;) {
      const page = await this.#call('list uploads', (abortSignal) =>
        this.#client.send(new ListMultipartUploadsCommand({ Bucket, Prefix, ...markers }), { abortSignal }),
      )
      for (const { Key = '', UploadId, Initiated } of page.Uploads ?? []) {
        if (!isBlobKey(Key.slice(Prefix.length)) || !Initiated || Initiated >= before) continue
        await this.#call(`end the upload of ${Key}`, (abortSignal) =>
          this.#client.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId }), { abortSignal }),
        ).catch(unlessGone)
      }
      // Storage that knows no such list may answer with another.
      if (page.IsTruncated !== true || page.NextKeyMarker === undefined) return
      markers = { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker }
    }
  }

  close(): void {
    this.#client.destroy()
  }

  /**
   * Whose blobs these are stands in an object beside them, since what one database does not know would be swept away under
   * another. Reading and writing it shows too that bucket and credentials are good.
   */
  async #claim(): Promise<void> {
    const { bucket, installation } = this.#options
    const object = { Bucket: bucket, Key: this.#name('installation') }
    const found = await this.#call('open', async (abortSignal) => {
      try {
        const { Body } = await this.#client.send(new GetObjectCommand(object), { abortSignal })
        return await Body?.transformToString()
      } catch (error) {
        if (!isMissing(error)) throw error
        await this.#client.send(new PutObjectCommand({ ...object, Body: installation }), { abortSignal })
        return installation
      }
    })
    if (found === installation) return
    throw new StorageError(
      'blobs_foreign',
      `${this.#place} holds the pictures of installation ${found}, and this database is installation ${installation}; give each a bucket or a prefix of its own`,
    )
  }

  get #place(): string {
    const { bucket, prefix, endpoint } = this.#options
    return `s3://${bucket}${prefix && `/${prefix}`} at ${endpoint ?? 'Amazon S3'}`
  }

  #name(key: string): string {
    const { prefix } = this.#options
    return prefix === '' ? key : `${prefix}/${key}`
  }

  #object(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.#options.bucket, Key: this.#name(checkBlobKey(key)) }
  }

  /** @throws {StorageError} `blob_missing`; `blobs_unavailable` for all else, which says what should be looked at */
  async #call<T>(what: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    // A signal that fired later would cut off bytes that are still being read.
    const giveUp = new AbortController()
    const timer = setTimeout(() => giveUp.abort(), callTimeoutMs)
    try {
      return await work(giveUp.signal)
    } catch (error) {
      if (isMissing(error))
        throw new StorageError('blob_missing', `there is no such blob: ${what}`, { cause: error })
      const { region, bucket } = this.#options
      throw new StorageError(
        'blobs_unavailable',
        `${this.#place}: cannot ${what}: ${explain(error, { region, bucket })}`,
        { cause: error },
      )
    } finally {
      clearTimeout(timer)
    }
  }
}

const missing = new Set(['NoSuchKey', 'NotFound', 'NoSuchUpload'])

const isMissing = (error: unknown): boolean => error instanceof S3ServiceException && missing.has(error.name)

/** What is listed may have come to its end meanwhile. */
function unlessGone(error: unknown): void {
  if (!(error instanceof StorageError && error.code === 'blob_missing')) throw error
}

function explain(error: unknown, { region, bucket }: Pick<S3Options, 'region' | 'bucket'>): string {
  if (!(error instanceof Error)) return String(error)
  const status = error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined
  const came = error.message === '' || error.message === 'UnknownError' ? error.name : error.message
  if (error.name === 'NoSuchBucket')
    return `expected a bucket named ${bucket} in region ${region}, and there is none`
  if (error.name === 'CredentialsProviderError')
    return `expected credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role, and found none`
  if (status === 401 || status === 403)
    return `expected credentials that may get, put, delete and list there, and was refused (${came})`
  if (status === 301 || status === 307)
    return `expected the bucket in region ${region}, and it is elsewhere (${came})`
  if (status === undefined) return `expected a storage that answers, and it does not (${came})`
  return `the storage answered ${status} (${came})`
}
