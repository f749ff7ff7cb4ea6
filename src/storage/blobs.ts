/**
 * Where picture bytes live: the interface, and what a key is. A directory implements it, and S3-compatible storage.
 *
 * A key is made before the bytes are known and says nothing of them, so that two equal pictures are two blobs and
 * deleting one never takes the other. It names its owner: whoever will tell of the blob in a row, and without whom nobody
 * ever will. A blob is whole or not there.
 */
import { randomBytes } from 'node:crypto'
import type { Readable } from 'node:stream'
import { StorageError } from './errors.ts'

export interface ByteRange {
  /** First byte. */
  readonly start: number
  /** Last byte, inclusive, as in HTTP. */
  readonly end: number
}

export interface BlobKind {
  /** The key's ending, for example `png`. */
  readonly extension: string
  /** Letters, digits, `_` and `-`. */
  readonly owner: string
}

export interface StoredBlob {
  readonly key: string
  /** Undefined in keys from before they named one. */
  readonly owner: string | undefined
  readonly storedAt: Date
}

export interface BlobLink {
  readonly expiresAt: Date
  readonly contentType: string
  readonly fileName: string
}

export interface BlobStore {
  /** Stores the bytes for good and returns their new key. */
  put(bytes: Uint8Array, kind: BlobKind): Promise<string>
  /** @throws {StorageError} `blob_missing`, `blobs_unavailable` */
  open(key: string, range?: ByteRange): Promise<Readable>
  /** Does nothing when there is no such blob. */
  delete(key: string): Promise<void>
  list(): AsyncIterable<StoredBlob>
  /** An address at which a client gets the blob from the storage itself; undefined where it cannot. */
  link(key: string, link: BlobLink): Promise<string | undefined>
  /** Removes what writes that began before then and were cut short have left. */
  removeUnfinished(before: Date): Promise<void>
  close(): void
}

const keyPattern = /^[0-9a-f]{2}\/[0-9a-f]{32}(?:\.(?<owner>[\w-]{1,80}))?\.[a-z0-9]{1,8}$/

/** By its first two digits a directory is spread over 256 folders. */
export function newBlobKey({ extension, owner }: BlobKind): string {
  const name = randomBytes(16).toString('hex')
  return checkBlobKey(`${name.slice(0, 2)}/${name}.${owner}.${extension}`)
}

export const isBlobKey = (text: string): boolean => keyPattern.test(text)

export const ownerOf = (key: string): string | undefined => keyPattern.exec(key)?.groups?.['owner']

/** Keys come back from rows and links: nothing but a key ever becomes a path. @throws {StorageError} `blob_missing` */
export function checkBlobKey(key: string): string {
  if (!isBlobKey(key)) throw new StorageError('blob_missing', `${JSON.stringify(key)} is not a blob key`)
  return key
}
