/** A service as its only user knows it: what the caller may do stands beside what the service does for everybody. */
import { keyless, type Caller } from '../../src/access/caller.ts'

interface Owned {
  of(caller: Caller): object
}

export type With<S extends Owned> = S & ReturnType<S['of']>

export function owned<S extends Owned>(service: S, caller: Caller = keyless): With<S> {
  return Object.assign(Object.create(service) as S, service.of(caller) as ReturnType<S['of']>)
}
