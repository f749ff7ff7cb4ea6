/** Who looks: the key, which this tab keeps until it is closed, and the client that uses it. */
import { computed, effect, signal } from '@preact/signals'
import { createAtelier } from '../../sdk/index.ts'

const stored = 'atelier.key'

/** Empty where the service asks for none. */
export const apiKey = signal(sessionStorage.getItem(stored) ?? '')

effect(() => {
  if (apiKey.value === '') sessionStorage.removeItem(stored)
  else sessionStorage.setItem(stored, apiKey.value)
})

const thisScript = import.meta.url

/** Where the service is: above the folder that this script came from, also where a proxy serves both under a path. */
export const serviceUrl = new URL('..', thisScript).href.replace(/\/$/, '')

const clientThatWaits = (timeoutMs: number) =>
  createAtelier({
    baseUrl: serviceUrl,
    apiKey: apiKey.value || undefined,
    maxRetries: 2,
    maxDelayMs: 2_000,
    timeoutMs,
  })

/** Tries again what helps within seconds; whoever looks is told of what takes longer, and decides. */
export const atelier = computed(() => clientThatWaits(30_000))

/** For what is answered when it is done, such as a model that is loaded. */
export const patientAtelier = computed(() => clientThatWaits(600_000))

/** Whether the dialog in which a key is entered is open. */
export const isAskingForKey = signal(false)

export function askForKey(): void {
  isAskingForKey.value = true
}
