/** How a dataset comes in: its upload is received, its files are checked, one dataset after the other, and what breaks off is cleared away. */
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import type { Logger } from 'pino'
import { everyProject } from '../access/project.ts'
import { throughOutages } from '../storage/outage.ts'
import { checkDataset, removeAllButPictures, uploadIn } from './check.ts'
import { ClaimLost, type Claim, type DatasetClaims } from './claims.ts'
import { isDatasetId, type Dataset, type DatasetFailure } from './dataset.ts'
import { DatasetError, datasetFailureCodes, messageOf } from './errors.ts'
import type { DatasetLimits } from './limits.ts'
import { asPlainText } from './problems.ts'
import type { DatasetReader } from './reader.ts'
import type { DatasetStore, NewDataset } from './store.ts'
import { checkUploadSize, receiveUpload } from './upload.ts'

export interface UploadSource {
  readonly stream: Readable
  /** Where the client has said so. */
  readonly expectedBytes?: number | undefined
  /** Ends the upload; nothing of it stays. */
  readonly signal?: AbortSignal | undefined
}

export interface IntakeOptions {
  /** Each dataset has a folder of its id's name in it. */
  readonly root: string
  readonly foldersRoot: string
  readonly limits: DatasetLimits
  readonly store: DatasetStore
  readonly claims: DatasetClaims
  readonly reader: DatasetReader
  readonly log: Logger
}

interface Work {
  readonly stop: AbortController
  /** What has not begun need not be waited for. */
  state: 'waiting' | 'begun'
  /** Never rejects. */
  readonly done: Promise<unknown>
}

const tellEveryMs = 1000

export class Intake {
  readonly #options: IntakeOptions
  readonly #closing = new AbortController()
  readonly #atWork = new Map<string, Work>()
  /** One is checked after the other: each takes what the processor has. */
  #turn: Promise<void> = Promise.resolve()

  constructor(options: IntakeOptions) {
    this.#options = options
  }

  /** Goes on with what processes left that are gone. */
  async takeUp(): Promise<readonly string[]> {
    const { root, claims } = this.#options
    await mkdir(root, { recursive: true, mode: 0o700 })
    const { again, failed } = await claims.takeUp()
    for (const claim of again) this.#startCheck(claim)
    for (const id of failed) await this.removeFiles(id)
    return again.map(({ id }) => id)
  }

  /** What this process held was given to others. */
  lose(): void {
    for (const { stop } of this.#atWork.values()) stop.abort()
  }

  /** Removes the files that belong to nothing. Only for a process that is alone, at its start. */
  async sweep(again: readonly string[]): Promise<void> {
    const { root, store, log } = this.#options
    const known = await store.withFiles()
    for (const name of await readdir(root)) {
      if (!isDatasetId(name) || again.includes(name)) continue
      if (known.has(name)) {
        await removeAllButPictures(this.#folderOf(name))
        continue
      }
      log.info({ folder: name }, 'removing what is left of a dataset that broke off or was deleted')
      await this.removeFiles(name)
    }
  }

  /**
   * @returns the new dataset's id, once all bytes are there
   * @throws {DatasetError} `unknown_archive`, `too_large`, `interrupted`, `shutting_down`; then nothing of it stays
   */
  async receive(wish: Omit<NewDataset, 'source'>, source: UploadSource): Promise<string> {
    // It may break off before anybody reads it; who does then is told.
    source.stream.on('error', () => undefined)
    this.#refuseWhenClosing()
    const { store, limits } = this.#options
    const { expectedBytes } = source
    if (expectedBytes !== undefined) checkUploadSize(expectedBytes, limits)
    const { claim } = await store.create({ ...wish, source: { kind: 'upload', expectedBytes } })
    const { id } = claim
    const stop = new AbortController()
    const receiving = this.#receive(claim, source, stop.signal)
    this.#atWork.set(id, { stop, state: 'begun', done: receiving.catch(() => undefined) })
    try {
      await receiving
    } catch (error) {
      this.#atWork.delete(id)
      await store.remove(wish.project, id, async () => false)
      await this.removeFiles(id)
      this.#refuseWhenClosing()
      if (error instanceof DatasetError || isOfTheSystem(error)) throw error
      const message = `expected the whole archive, got a part of it (${messageOf(error)})`
      throw new DatasetError('interrupted', message, { cause: error })
    }
    this.#startCheck(claim)
    return id
  }

  /** @throws {DatasetError} `shutting_down` */
  async copy(wish: NewDataset): Promise<Dataset> {
    this.#refuseWhenClosing()
    const { dataset, claim } = await this.#options.store.create(wish)
    this.#startCheck(claim)
    return dataset
  }

  /** @returns whether anything was at work on it, which has ended now */
  async stop(id: string): Promise<boolean> {
    const work = this.#atWork.get(id)
    if (!work) return false
    work.stop.abort()
    if (work.state === 'begun') await work.done
    else this.#atWork.delete(id)
    return true
  }

  async removeFiles(id: string): Promise<void> {
    await rm(this.#folderOf(id), { recursive: true, force: true })
  }

  /** Once nothing is at work on it. Rejects with the signal's reason. */
  async settled(id: string, signal: AbortSignal | undefined): Promise<void> {
    const aborted = Promise.withResolvers<never>()
    // Nobody may be waiting for it.
    aborted.promise.catch(() => undefined)
    const abort = () => aborted.reject(signal?.reason as Error)
    if (signal?.aborted) abort()
    else signal?.addEventListener('abort', abort, { once: true })
    try {
      for (let work = this.#atWork.get(id); work; work = this.#atWork.get(id))
        await Promise.race([work.done, aborted.promise])
    } finally {
      signal?.removeEventListener('abort', abort)
    }
  }

  /** A check begins anew at the next start; an upload is lost. */
  async close(): Promise<void> {
    this.#closing.abort()
    await Promise.all([...this.#atWork.values()].map(({ done }) => done))
  }

  async #receive(claim: Claim, { stream, signal }: UploadSource, stop: AbortSignal): Promise<void> {
    const { id } = claim
    const { claims, limits } = this.#options
    let toldAt = performance.now()
    let told: Promise<void> = Promise.resolve()
    const onBytes = (bytes: number) => {
      if (performance.now() - toldAt < tellEveryMs) return
      toldAt = performance.now()
      told = told.then(() => claims.received(claim, bytes))
      // The next write to the row meets whatever this one met.
      told.catch(() => undefined)
    }
    await mkdir(this.#folderOf(id), { recursive: true, mode: 0o700 })
    const signals = [stop, this.#closing.signal, ...(signal ? [signal] : [])]
    const options = { limits, onBytes, signal: AbortSignal.any(signals) }
    const bytes = await receiveUpload(stream, this.#uploadOf(id), options)
    await told
    await claims.arrived(claim, bytes)
  }

  #startCheck(claim: Claim): void {
    const { id } = claim
    const { log } = this.#options
    const stop = new AbortController()
    const signal = AbortSignal.any([stop.signal, this.#closing.signal])
    const check = async () => {
      if (signal.aborted) return
      work.state = 'begun'
      await this.#checkOrFail(claim, signal)
    }
    const done = this.#turn
      .then(check)
      .catch((error: unknown) =>
        log.error({ err: error, datasetId: id }, 'cannot write what became of a dataset'),
      )
      .finally(() => {
        if (this.#atWork.get(id) === work) this.#atWork.delete(id)
      })
    const work: Work = { stop, state: 'waiting', done }
    this.#turn = done
    this.#atWork.set(id, work)
  }

  async #checkOrFail(claim: Claim, signal: AbortSignal): Promise<void> {
    const { id } = claim
    const { claims, log } = this.#options
    let attempt: number | undefined
    try {
      const begun = await throughOutages(() => claims.beginAttempt(claim), signal)
      attempt = begun
      const check = () => checkDataset(claim, begun, this.#folderOf(id), this.#options, signal)
      await throughOutages(check, signal)
    } catch (error) {
      if (error instanceof ClaimLost) return this.#leave(id)
      if (signal.aborted) {
        // Deleted, lost, or to be taken up at the next start.
        if (this.#closing.signal.aborted) await unlessLost(claims.handBack(claim, attempt))
        return
      }
      const failure = failureOf(error)
      if (failure.code === 'server_failed') log.error({ err: error, datasetId: id }, 'cannot check a dataset')
      else log.info({ datasetId: id, failure }, 'dataset failed')
      if (await unlessLost(claims.fail(claim, failure))) await this.removeFiles(id)
      else await this.#leave(id)
    }
  }

  /** It is for another process now, or was deleted by one. */
  async #leave(id: string): Promise<void> {
    const { reader, log } = this.#options
    if (!(await reader.get(everyProject, id))) await this.removeFiles(id)
    log.info(
      { datasetId: id },
      'a dataset is not checked any more: it was deleted, or another process does it',
    )
  }

  #refuseWhenClosing(): void {
    if (this.#closing.signal.aborted)
      throw new DatasetError('shutting_down', 'the server is shutting down; send it again')
  }

  #folderOf(id: string): string {
    return join(this.#options.root, id)
  }

  #uploadOf(id: string): string {
    return uploadIn(this.#folderOf(id))
  }
}

function failureOf(error: unknown): DatasetFailure {
  if (error instanceof DatasetError) {
    const code = datasetFailureCodes.find((known) => known === error.code)
    return { code: code ?? 'server_failed', message: asPlainText(error.message) }
  }
  return { code: 'server_failed', message: 'its files could not be read or written; the log has the details' }
}

/** @returns whether it was written */
async function unlessLost(write: Promise<void>): Promise<boolean> {
  try {
    await write
    return true
  } catch (error) {
    if (error instanceof ClaimLost) return false
    throw error
  }
}

/** A full disk and the like, which are not the client's doing. */
const isOfTheSystem = (error: unknown): boolean => error instanceof Error && 'syscall' in error
