/** What a promise or a call was refused with, certainly a WeightsError. */
import { expect } from 'vitest'
import { WeightsError } from '../../src/weights/errors.ts'

export async function refusal(promise: Promise<unknown>): Promise<WeightsError> {
  const reason: unknown = await promise.then(
    () => undefined,
    (error: unknown) => error,
  )
  expect(reason).toBeInstanceOf(WeightsError)
  return reason as WeightsError
}

/** What a call gave or threw. */
export function outcome<T>(call: () => T): { readonly value: T } | { readonly error: unknown } {
  try {
    return { value: call() }
  } catch (error) {
    return { error }
  }
}
