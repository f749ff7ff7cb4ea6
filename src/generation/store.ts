/**
 * What clients change of a generation: that it is there, that it is cancelled, that it is gone. Each change is one transaction with its
 * job, its events and its notifications.
 *
 *   create → queued ─ claim, then begin → running ─ succeed | fail → final
 *               ↑───── handBack ───────────┘         queued | running ─ cancel → final ─ delete
 *
 * What workers change is `leases.ts`; what becomes of the work of a process that is gone, `recovery.ts`. Every transaction may be
 * made again after one whose end is not known: what was done already is not done twice.
 */
import type { Caller } from '../access/caller.ts'
import type { Project } from '../access/project.ts'
import type { Priority } from '../engine/pool.ts'
import { notify } from '../storage/database.ts'
import type { Storage } from '../storage/storage.ts'
import { inTransaction } from '../storage/transactions.ts'
import { webhookEvents, type Webhook } from '../webhooks/deliveries.ts'
import { spend } from './allowance.ts'
import { GenerationError } from './errors.ts'
import { addEvents, eventChannel } from './event-log.ts'
import type { EventDetails } from './events.ts'
import {
  isSettled,
  jobIdOf,
  newGenerationId,
  toColumns,
  toGeneration,
  type Generation,
} from './generation.ts'
import { claimKey, findKey, fingerprintOf, type IdempotentCall } from './idempotency.ts'
import type { GenerationParameters } from './parameters.ts'
import { lookAhead } from './places.ts'
import { afterSettled } from './settling.ts'
import { turnOf } from './turns.ts'

export interface NewGeneration {
  readonly caller: Caller
  readonly parameters: GenerationParameters
  readonly requestId: string
  readonly user: string | undefined
  readonly traceparent?: string | undefined
  readonly priority: Priority
  readonly deadline: Date | undefined
  readonly previewSteps: readonly number[]
  readonly expectedMs: number
  readonly rowTokens: number
  readonly webhook?: Webhook | undefined
  readonly idempotency: IdempotentCall | undefined
}

export class GenerationStore {
  readonly #storage: Storage

  constructor(storage: Storage) {
    this.#storage = storage
  }

  /**
   * `admit` sees the expected work of all that waits and runs, and throws to refuse more; a replay is never refused.
   * @throws {GenerationError} `idempotency_conflict`, `generation_deleted`, `in_flight_limit`, `images_limit`
   */
  async create(
    request: NewGeneration,
    admit: (workMs: number) => void,
  ): Promise<{ generation: Generation; replayed: boolean }> {
    const { caller, parameters, idempotency, previewSteps, webhook = webhookOf(caller), ...columns } = request
    const { project } = caller
    const fingerprint = idempotency && fingerprintOf(idempotency)
    const createdAt = new Date()
    const turnAt = turnOf({ ...request, createdAt })
    const id = newGenerationId()
    for (;;) {
      const key = fingerprint && (await findKey(this.#prisma, fingerprint))
      if (key) return { generation: await this.#expectReplay(project, key.generationId), replayed: true }
      const accepted = await inTransaction(this.#storage.database, async (transaction) => {
        // A twin with the same key may have committed since the look: then its generation is the answer.
        if (fingerprint && !(await claimKey(transaction, fingerprint, { generationId: id }))) return undefined
        if (caller.key) await spend(transaction, caller.key, parameters.count)
        const { workMs, position } = await lookAhead(transaction, turnAt)
        admit(workMs)
        const row = await transaction.generation.create({
          data: {
            ...columns,
            ...toColumns(parameters),
            id,
            project,
            keyId: caller.key?.id ?? null,
            user: request.user ?? null,
            traceparent: request.traceparent ?? null,
            deadline: request.deadline ?? null,
            previewSteps: [...previewSteps],
            webhookUrl: webhook?.url ?? null,
            webhookEvents: [...(webhook?.events ?? [])],
            createdAt,
            turnAt,
            eventCount: 1,
          },
        })
        const events: EventDetails[] = [{ type: 'queued', position }]
        await addEvents(transaction, [{ generationId: id, eventCount: 1, events }], []) // nobody knows of it yet
        await this.#storage.generationQueue.send(transaction, [{ id: jobIdOf(id), turnAt }])
        return toGeneration({ ...row, images: [] })
      })
      if (accepted) return { generation: accepted, replayed: false }
    }
  }

  /**
   * Does nothing to a generation that is final already.
   * @returns whether it was not
   */
  async cancel(project: Project, id: string): Promise<boolean> {
    return inTransaction(this.#storage.database, async (transaction) => {
      const [row] = await transaction.generation.updateManyAndReturn({
        where: { id, project, state: { in: ['queued', 'running'] } },
        data: {
          state: 'cancelled',
          finishedAt: new Date(),
          claimed: false,
          heldBy: null,
          eventCount: { increment: 1 },
        },
        select: { eventCount: true },
      })
      if (!row) return false
      await afterSettled(this.#storage, transaction, id, row.eventCount, [], { type: 'cancelled' })
      return true
    })
  }

  /**
   * Removes a final generation, its pictures and its events.
   * @returns the blobs that nobody needs any more; undefined when there is no such generation
   * @throws {GenerationError} `not_settled`
   */
  async delete(project: Project, id: string): Promise<string[] | undefined> {
    return inTransaction(this.#storage.database, async (transaction) => {
      const row = await transaction.generation.findUnique({
        where: { id, project },
        include: { images: true, events: { where: { blobKey: { not: null } } } },
      })
      if (!row) return undefined
      if (!isSettled(toGeneration(row))) {
        throw new GenerationError('not_settled', `the generation is ${row.state}; cancel it first`)
      }
      await transaction.generation.delete({ where: { id, project } })
      await notify(transaction, eventChannel, id)
      return [...row.images, ...row.events].flatMap(({ blobKey }) => blobKey ?? [])
    })
  }

  async #expectReplay(project: Project, generationId: string | null): Promise<Generation> {
    const row =
      generationId === null
        ? undefined
        : await this.#prisma.generation.findUnique({
            where: { id: generationId, project },
            include: { images: true },
          })
    if (row) return toGeneration(row)
    throw new GenerationError(
      'generation_deleted',
      'the generation that this Idempotency-Key made was deleted since',
    )
  }

  get #prisma() {
    return this.#storage.database.prisma
  }
}

const webhookOf = ({ key }: Caller): Webhook | undefined =>
  key?.webhookUrl === undefined ? undefined : { url: key.webhookUrl, events: webhookEvents }
