/** Who sent a request: known once it was let in, and to be had from nowhere else. */
import type { FastifyRequest } from 'fastify'
import type { Caller } from '../access/caller.ts'
import { everyProject, type Whose } from '../access/project.ts'

type Asking = Pick<FastifyRequest, 'raw'>

const callers = new WeakMap<FastifyRequest['raw'], Caller>()
const bearers = new WeakSet<FastifyRequest['raw']>()

export function letIn({ raw }: Asking, caller: Caller): void {
  callers.set(raw, caller)
}

/** For a request by a signed address, which is that of one picture and says itself that whoever has it may see it. */
export function letInByAddress({ raw }: Asking): void {
  bearers.add(raw)
}

/** Whose pictures a request may look at. @throws for a request that nobody let in */
export const mayLookAt = (request: Asking): Whose =>
  bearers.has(request.raw) ? everyProject : callerOf(request).project

/** @throws for a request of an operation that anybody may call, or by a signed address */
export function callerOf({ raw }: Asking): Caller {
  const caller = callers.get(raw)
  if (!caller) throw new Error('a request that nobody let in asks whose it is')
  return caller
}
