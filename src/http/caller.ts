/** Who sent a request: known once it was let in, and to be had from nowhere else. */
import type { FastifyRequest } from 'fastify'
import type { Caller } from '../access/caller.ts'

type Asking = Pick<FastifyRequest, 'raw'>

const callers = new WeakMap<FastifyRequest['raw'], Caller>()

export function letIn({ raw }: Asking, caller: Caller): void {
  callers.set(raw, caller)
}

/** @throws for a request of an operation that anybody may call */
export function callerOf({ raw }: Asking): Caller {
  const caller = callers.get(raw)
  if (!caller) throw new Error('a request that nobody let in asks whose it is')
  return caller
}
