/** One dataset's life, as its callers see it: received, checked, looked at, edited, given to a job, deleted. */
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import type { Logger } from 'pino'
import type { Caller } from '../access/caller.ts'
import type { Whose } from '../access/project.ts'
import type { Transaction } from '../storage/database.ts'
import { oneAtATime } from '../storage/one-at-a-time.ts'
import type { Storage } from '../storage/storage.ts'
import { writeManifest } from '../training/data/manifest.ts'
import { DatasetClaims } from './claims.ts'
import type { Dataset, DatasetItem, DatasetProblem, DatasetSummary, ItemChanges } from './dataset.ts'
import { DatasetError } from './errors.ts'
import { Intake, type UploadSource } from './intake.ts'
import type { LabelSource } from './join.ts'
import { defaultLimits, type DatasetLimits } from './limits.ts'
import { pictureFile } from './picture-files.ts'
import { thumbnail } from './pictures.ts'
import {
  DatasetReader,
  type BucketCount,
  type ItemFilters,
  type LabelCount,
  type Page,
  type PageOptions,
  type TrainableCount,
} from './reader.ts'
import { findServerFolder } from './server-folder.ts'
import { datasetNotFound, DatasetStore, itemNotFound, notReady, requireReady, type InUse } from './store.ts'

export type { UploadSource } from './intake.ts'
export type { Page, PageOptions, ItemFilters, LabelCount, BucketCount, TrainableCount } from './reader.ts'

export interface DatasetWish {
  readonly name: string
  /** `auto` unless told. */
  readonly labels?: LabelSource | undefined
}

/** What can be looked at by its address alone. */
export interface Pictures {
  item(id: string, itemId: string): Promise<DatasetItem | undefined>
  /** The picture's own bytes. @throws {DatasetError} `item_not_found` */
  openPicture(item: DatasetItem): Promise<Readable>
  /** A WebP no larger than this, upright. @throws {DatasetError} `item_not_found` */
  thumbnail(item: DatasetItem, maxSide: number): Promise<Buffer>
}

/** One project's datasets, as whoever asks for it may see and change them; all others are not there. */
export interface Datasets extends Pictures {
  /**
   * Resolves when all bytes are there and their check begins.
   * @throws {DatasetError} `unknown_archive`, `too_large`, `interrupted`, `shutting_down`, `invalid_text`; then nothing of it stays
   */
  upload(wish: DatasetWish, source: UploadSource): Promise<Dataset>
  /** @throws {DatasetError} `folder_not_allowed`, `shutting_down`, `invalid_text` */
  fromFolder(wish: DatasetWish & { readonly folder: string }): Promise<Dataset>
  get(id: string): Promise<Dataset | undefined>
  /** Newest first. @throws {DatasetError} `invalid_cursor` */
  list(options?: PageOptions): Promise<Page<Dataset>>
  /** Of its pictures, the most frequent first. @throws {DatasetError} `not_found`, as all that follow do */
  labels(id: string, limit?: number): Promise<readonly LabelCount[]>
  /** How its pictures fall into the buckets of a resolution. @throws {RangeError} for one that has none */
  buckets(id: string, resolution: number): Promise<readonly BucketCount[]>
  /** @throws {DatasetError} `not_found`, `invalid_cursor` */
  items(id: string, filters?: ItemFilters): Promise<Page<DatasetItem>>
  /** @throws {DatasetError} `not_found`, `invalid_cursor` */
  problems(id: string, options?: PageOptions): Promise<Page<DatasetProblem>>
  /** @throws {DatasetError} `not_found`, `item_not_found`, `not_ready`, `invalid_text` */
  changeItem(id: string, itemId: string, changes: ItemChanges): Promise<DatasetItem>
  /**
   * Ends what is still at work on it, and removes it with its files.
   * @returns whether there was one
   * @throws {DatasetError} `in_use`
   */
  delete(id: string): Promise<boolean>
  /**
   * For whoever begins to work with a dataset: as long as the transaction lasts it cannot be deleted.
   * @throws {DatasetError} `not_found`, `not_ready`
   */
  requireReady(transaction: Transaction, id: string): Promise<void>
  /**
   * Writes all of its pictures as they are now, as JSON Lines of `TrainingItem`, in the order of their paths.
   * @throws {DatasetError} `not_found`, `not_ready`
   */
  snapshot(id: string, file: string): Promise<DatasetSummary>
  /** Of its pictures with an aesthetic score of so much at least, or of all. */
  countTrainable(id: string, minAestheticScore?: number): Promise<TrainableCount>
  /** Pictures whose caption could not be used, and that have no other. */
  countBadCaptions(id: string): Promise<number>
  /** Once nothing is at work on it. Rejects with the signal's reason. */
  settled(id: string, options?: { signal?: AbortSignal | undefined }): Promise<Dataset | undefined>
}

export interface DatasetService {
  of(caller: Pick<Caller, 'project'>): Datasets
  pictures(whose: Whose): Pictures
  /** Stops what is at work. A check begins anew at the next start; an upload is lost. */
  close(): Promise<void>
}

export interface DatasetServiceOptions {
  readonly storage: Storage
  readonly log: Logger
  /** Datasets lie below it, each in a folder of its id's name. */
  readonly dataDir: string
  /** Where folders of the server may be; empty where none may. */
  readonly foldersRoot: string
  readonly limits?: Partial<DatasetLimits>
  /** Whether anything works with a dataset, which then is not deleted. */
  readonly inUse?: InUse
}

/** Takes up what an earlier process left and returns the service. */
export async function startDatasetService(options: DatasetServiceOptions): Promise<DatasetService> {
  const { storage, log, foldersRoot, inUse = async () => false } = options
  const root = join(options.dataDir, 'datasets')
  const limits = { ...defaultLimits, ...options.limits }
  const store = new DatasetStore(storage)
  const claims = new DatasetClaims(storage)
  const reader = new DatasetReader(storage)
  const intake = new Intake({ root, foldersRoot, limits, store, claims, reader, log })
  const again = await intake.takeUp()
  if (!storage.database.isShared) await intake.sweep(again)
  const stopLosing = storage.presence.onGone(() => intake.lose())
  const takingUp = oneAtATime(
    () => intake.takeUp(),
    (error) => log.warn({ err: error }, 'cannot look for datasets that others left; will try again'),
  )
  const stopTakingUp = storage.presence.onOthersGone(takingUp.begin)
  const folderOf = (id: string) => join(root, id)

  function pictures(whose: Whose): Pictures {
    return {
      item: (id, itemId) => reader.item(whose, id, itemId),
      async openPicture({ datasetId, id, sha256, format }) {
        try {
          const handle = await open(pictureFile(folderOf(datasetId), sha256, format), 'r')
          return handle.createReadStream()
        } catch (error) {
          // Deleted since it was looked up.
          throw (await reader.item(whose, datasetId, id)) ? error : itemNotFound(id)
        }
      },
      async thumbnail({ datasetId, id, sha256, format }, maxSide) {
        try {
          return await thumbnail(pictureFile(folderOf(datasetId), sha256, format), maxSide, limits.maxPixels)
        } catch (error) {
          throw (await reader.item(whose, datasetId, id)) ? error : itemNotFound(id)
        }
      },
    }
  }

  function of({ project }: Pick<Caller, 'project'>): Datasets {
    async function expectDataset(id: string): Promise<Dataset> {
      const dataset = await reader.get(project, id)
      if (!dataset) throw datasetNotFound(id)
      return dataset
    }
    /** For all that is read by a dataset's id alone. */
    const within = async <T>(id: string, look: () => Promise<T>): Promise<T> => {
      await expectDataset(id)
      return look()
    }

    return {
      ...pictures(project),
      async upload({ name, labels = 'auto' }, source) {
        checkTexts({ name })
        return expectDataset(await intake.receive({ project, name, labels }, source))
      },
      async fromFolder({ name, folder, labels = 'auto' }) {
        checkTexts({ name, folder })
        const { below } = await findServerFolder(foldersRoot, folder)
        return intake.copy({ project, name, labels, source: { kind: 'folder', folder: below } })
      },
      get: (id) => reader.get(project, id),
      list: (page = {}) => reader.list(project, page),
      labels: (id, limit = 1000) => within(id, () => reader.labels(id, limit)),
      buckets: (id, resolution) => within(id, () => reader.buckets(id, resolution)),
      items: (id, filters = {}) => within(id, () => reader.items(id, filters)),
      problems: (id, page = {}) => within(id, () => reader.problems(id, page)),
      async changeItem(id, itemId, changes) {
        checkTexts({ captions: changes.captions?.join('\n'), label: changes.label ?? undefined })
        await store.changeItem(project, id, itemId, changes)
        const item = await reader.item(project, id, itemId)
        if (!item) throw itemNotFound(itemId)
        return item
      },
      async delete(id) {
        if (!(await reader.get(project, id))) return false
        const wasAtWork = await intake.stop(id)
        const wasThere = await store.remove(project, id, inUse)
        await intake.removeFiles(id)
        return wasThere || wasAtWork
      },
      requireReady: (transaction, id) => requireReady(transaction, project, id),
      async snapshot(id, file) {
        const dataset = await expectDataset(id)
        if (dataset.state !== 'ready') throw notReady(dataset.state)
        const { captioned, labelled, scored, leftOut } = dataset.counts
        const items = await writeManifest(file, reader.trainingItems(id, folderOf(id)))
        const [labels, badCaptions] = await Promise.all([reader.countLabels(id), reader.countBadCaptions(id)])
        return { items, captioned, labelled, scored, leftOut, badCaptions, labels }
      },
      countTrainable: (id, minAestheticScore) =>
        within(id, () => reader.countTrainable(id, minAestheticScore)),
      countBadCaptions: (id) => within(id, () => reader.countBadCaptions(id)),
      async settled(id, { signal } = {}) {
        await intake.settled(id, signal)
        return reader.get(project, id)
      },
    }
  }

  return {
    of,
    pictures,
    async close() {
      stopLosing()
      stopTakingUp()
      await takingUp.idle()
      await intake.close()
    },
  }
}

/** PostgreSQL's text holds every Unicode string but for U+0000, and half a surrogate pair is no Unicode. */
function checkTexts(texts: Readonly<Record<string, string | undefined>>): void {
  for (const [parameter, text] of Object.entries(texts)) {
    if (text === undefined || (text.isWellFormed() && !text.includes('\0'))) continue
    throw new DatasetError(
      'invalid_text',
      `${parameter}: expected Unicode text without U+0000 and without unpaired surrogates`,
      { parameter },
    )
  }
}
