/** A model's repository on a hub: which commit a revision is, and what of it makes a checkpoint that can be served or trained from. */
import { HubApiError, listFiles, modelInfo } from '@huggingface/hub'
import { HubError } from './errors.ts'

export interface Repository {
  /** As `ORG/NAME`. */
  readonly name: string
  readonly revision: string
  /** The hub's address, or a mirror's, without a slash at its end. */
  readonly endpoint: string
  readonly accessToken: string | undefined
}

export interface RemoteFile {
  readonly path: string
  readonly sizeBytes: number
  readonly checksum: Checksum
}

/** Large files have a checksum of their bytes; small ones are known by git's hash of them. */
export type Checksum = { readonly kind: 'sha256' | 'git blob'; readonly hex: string }

export interface Listing {
  /** The commit, so that all files are of one. */
  readonly commit: string
  readonly files: readonly RemoteFile[]
}

/** @throws {HubError} in one line: no such repository or revision, no right to it, or no hub */
export async function listRepository(repository: Repository): Promise<Listing> {
  const { name, revision, endpoint, accessToken } = repository
  const hub = { hubUrl: endpoint, ...(accessToken !== undefined && { accessToken }) }
  try {
    const { sha: commit } = await modelInfo({ name, revision, additionalFields: ['sha'], ...hub })
    const files: RemoteFile[] = []
    for await (const { type, path, size, oid, lfs } of listFiles({
      repo: name,
      revision: commit,
      recursive: true,
      ...hub,
    })) {
      if (type !== 'file') continue
      if (lfs) files.push({ path, sizeBytes: lfs.size, checksum: { kind: 'sha256', hex: lfs.oid } })
      else if (oid !== undefined)
        files.push({ path, sizeBytes: size, checksum: { kind: 'git blob', hex: oid } })
    }
    return { commit, files }
  } catch (error) {
    throw error instanceof HubApiError
      ? refusal(repository, error.statusCode, error)
      : unreachable(endpoint, error)
  }
}

/** @returns what a status that is no success means */
export function refusal(
  { name, revision, endpoint, accessToken }: Repository,
  status: number,
  cause?: unknown,
): HubError {
  const told = { cause }
  switch (status) {
    case 401:
    case 403: {
      const how =
        accessToken === undefined
          ? 'set HF_TOKEN to a token that may'
          : 'the token of HF_TOKEN may not, or the terms of the model were not accepted'
      return new HubError(
        `${endpoint}: expected to be let into ${name}, which is private, gated or not there (${status}); ${how}`,
        told,
      )
    }
    case 404:
      return new HubError(
        `${endpoint}: expected a repository ${name} with a revision ${revision}, and there is none (404)`,
        told,
      )
    default:
      return new HubError(`${endpoint}: expected an answer about ${name}, got the status ${status}`, told)
  }
}

export const unreachable = (endpoint: string, error: unknown): HubError =>
  new HubError(`${endpoint}: expected a hub that answers: ${reasonOf(error)}`, { cause: error })

/** `fetch` hides the reason below its own words. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error ? reasonOf(error.cause) : error.message || error.name
}

/** What is read of a checkpoint beside weights, and what goes with it. */
const wanted = [
  /^(?:model_index\.json|LICENSE[\w.-]*|README\.md)$/,
  /^(?:transformer|text_encoder|vae)\/config\.json$/,
  /^scheduler\/scheduler_config\.json$/,
  /^tokenizer\/(?:spiece\.model|tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json|added_tokens\.json)$/,
]

/** Names that diffusers and transformers save weights under, without those of a variant such as fp16. */
const whole = /^(?<folder>transformer|text_encoder|vae)\/(?:diffusion_pytorch_model|model)\.safetensors$/
const sharded =
  /^(?<folder>transformer|text_encoder|vae)\/(?:diffusion_pytorch_model|model)(?:-\d{5}-of-\d{5}\.safetensors|\.safetensors\.index\.json)$/

/** @returns of all files those that are read: no other formats of the same weights, and no shards where there is the whole */
export function filesToPull(files: readonly RemoteFile[]): readonly RemoteFile[] {
  const folderOf = (name: RegExp, path: string) => name.exec(path)?.groups?.['folder']
  const inOneFile = new Set(files.map(({ path }) => folderOf(whole, path)))
  return files.filter(({ path }) => {
    if (wanted.some((name) => name.test(path)) || whole.test(path)) return true
    const folder = folderOf(sharded, path)
    return folder !== undefined && !inOneFile.has(folder)
  })
}
