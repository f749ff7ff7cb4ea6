/** `atelier model pull ORG/NAME [DIR]`: a checkpoint from the Hugging Face hub or a mirror. */
import { join } from 'node:path'
import { HubError } from '../../hub/errors.ts'
import { pull } from '../../hub/pull.ts'
import { mebibytes } from '../../weights/units.ts'
import { interruptedStatus, onInterruption } from '../interruption.ts'

export interface PullCommandOptions {
  readonly revision: string
  readonly endpoint?: string
}

const tellEveryMs = 2_000

/** @returns the exit status @throws {HubError} and what else `pull` throws */
export async function modelPull(
  name: string,
  folder = join('models', name.slice(name.indexOf('/') + 1)),
  { revision, endpoint = process.env['HF_ENDPOINT'] || 'https://huggingface.co' }: PullCommandOptions,
): Promise<number> {
  if (!/^[\w-][\w.-]*\/[\w-][\w.-]*$/.test(name))
    throw new HubError(`expected a repository as ORG/NAME, got ${name}`)
  if (!/^https?:$/.test(URL.parse(endpoint)?.protocol ?? ''))
    throw new HubError(`HF_ENDPOINT, --endpoint: expected an http or https URL, got ${endpoint}`)
  const accessToken = process.env['HF_TOKEN'] || undefined
  const repository = { name, revision, endpoint: endpoint.replace(/\/+$/, ''), accessToken }
  const { signal, forget } = onInterruption(() =>
    console.log('interrupted; the same command goes on where this one stopped'),
  )
  const progress = { totalBytes: 0, bytes: 0, toldAtMs: 0 }
  try {
    const { commit, files } = await pull(repository, folder, {
      signal,
      onListed({ files, totalBytes }) {
        progress.totalBytes = totalBytes
        console.log(`${name} at ${revision}: ${files} files, ${mebibytes(totalBytes)}`)
      },
      onBytes(path, bytes) {
        progress.bytes += bytes
        const nowMs = performance.now()
        if (nowMs - progress.toldAtMs < tellEveryMs && progress.bytes < progress.totalBytes) return
        progress.toldAtMs = nowMs
        const percent = Math.floor((100 * progress.bytes) / progress.totalBytes)
        console.log(`${String(percent).padStart(3)} %  ${mebibytes(progress.bytes)}  ${path}`)
      },
    })
    console.log(
      `${folder}: ${files.length} files of commit ${commit}, each with the checksum that the hub tells`,
    )
    return 0
  } catch (error) {
    if (signal.aborted) return interruptedStatus
    throw error
  } finally {
    forget()
  }
}
