/** What is done once for an `Idempotency-Key`, however often a client sends it. */
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { IdempotentCall } from '../../generation/idempotency.ts'
import { callerOf } from '../caller.ts'
import { idempotencyKeyOf, type RouteDependencies } from './dependencies.ts'

/**
 * @param call what tells this request from another under the same key
 * @returns what `work` came to, now or, as the answer's head then says, before
 */
export async function onceForKey<T>(
  request: FastifyRequest,
  reply: FastifyReply,
  { generation }: Pick<RouteDependencies, 'generation'>,
  call: Omit<IdempotentCall, 'project' | 'key'>,
  work: () => Promise<T>,
): Promise<T> {
  const key = idempotencyKeyOf(request)
  if (key === undefined) return work()
  const { answer, replayed } = await generation.of(callerOf(request)).once({ key, ...call }, work)
  if (replayed) reply.header('idempotency-replayed', 'true')
  return answer
}
