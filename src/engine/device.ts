/** The parent's handle of one device process: start it, talk to it, and when it dies start another and run its requests again. */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import {
  EngineError,
  type ChildMessage,
  type DeviceOptions,
  type ImageProgress,
  type ImageRequest,
  type ImageResult,
  type ModelInfo,
  type ParentMessage,
} from './protocol.ts'

const processFile = fileURLToPath(new URL('device-process.ts', import.meta.url))

/** A request that was being worked on when its device died this often is taken to be the cause. */
const maxDeathsPerRequest = 3
const restartDelayMs = { first: 0, base: 250, max: 10_000 }

export type DeviceEvent =
  | { readonly kind: 'note'; readonly message: string }
  | { readonly kind: 'ready'; readonly pid: number; readonly models: readonly ModelInfo[] }
  | { readonly kind: 'died'; readonly reason: string; readonly requests: number }

interface InFlight {
  readonly request: ImageRequest
  readonly onProgress: ((progress: ImageProgress) => void) | undefined
  readonly resolve: (result: ImageResult) => void
  readonly reject: (error: unknown) => void
  started: boolean
  deaths: number
}

type DeviceState =
  | { readonly kind: 'starting'; readonly child: ChildProcess }
  | { readonly kind: 'ready'; readonly child: ChildProcess }
  | { readonly kind: 'restarting'; readonly timer: NodeJS.Timeout }
  | { readonly kind: 'closed' }

export class Device {
  readonly #options: DeviceOptions
  readonly #onEvent: (event: DeviceEvent) => void
  readonly #inFlight = new Map<string, InFlight>()
  #state: DeviceState
  #models: readonly ModelInfo[] = []
  #deathsInARow = 0

  /**
   * Starts the process and resolves when its models are loaded.
   * @throws {EngineError} device_failed, with the child's own words, when it cannot start the first time
   */
  static async start(options: DeviceOptions, onEvent: (event: DeviceEvent) => void): Promise<Device> {
    const first = Promise.withResolvers<void>()
    let hasStarted = false
    const device = new Device(options, (event) => {
      if (event.kind === 'ready') first.resolve()
      // It is not started again: the error tells of it, and to the one caller.
      if (event.kind === 'died' && !hasStarted) first.reject(new EngineError('device_failed', event.reason))
      else onEvent(event)
    })
    try {
      await first.promise
      hasStarted = true
    } catch (error) {
      await device.close()
      throw error
    }
    return device
  }

  private constructor(options: DeviceOptions, onEvent: (event: DeviceEvent) => void) {
    this.#options = options
    this.#onEvent = onEvent
    this.#state = { kind: 'starting', child: this.#fork() }
  }

  get ready(): boolean {
    return this.#state.kind === 'ready'
  }

  get models(): readonly ModelInfo[] {
    return this.#models
  }

  /** Requests that are waiting or running here. */
  get load(): number {
    return this.#inFlight.size
  }

  /**
   * @param signal when aborted, the request leaves the device between two steps and the promise rejects with its reason at once
   * @throws {EngineError} what the device said, or device_failed when it died under this request too often
   */
  async generate(
    request: ImageRequest,
    options: {
      readonly signal?: AbortSignal | undefined
      readonly onProgress?: ((progress: ImageProgress) => void) | undefined
    },
  ): Promise<ImageResult> {
    options.signal?.throwIfAborted()
    if (this.#state.kind === 'closed') throw new EngineError('device_failed', 'the device is closed')
    const { promise, resolve, reject } = Promise.withResolvers<ImageResult>()
    const abort = () => {
      this.#inFlight.delete(request.id)
      this.#send({ type: 'cancel', id: request.id })
      reject(options.signal?.reason)
    }
    options.signal?.addEventListener('abort', abort, { once: true })
    this.#inFlight.set(request.id, {
      request,
      onProgress: options.onProgress,
      resolve,
      reject,
      started: false,
      deaths: 0,
    })
    this.#send({ type: 'submit', request })
    try {
      return await promise
    } finally {
      options.signal?.removeEventListener('abort', abort)
    }
  }

  /** Ends the process. Requests still in flight reject with device_failed. */
  async close(): Promise<void> {
    const previous = this.#state
    this.#state = { kind: 'closed' }
    for (const { reject } of this.#inFlight.values())
      reject(new EngineError('device_failed', 'the device was closed'))
    this.#inFlight.clear()
    if (previous.kind === 'restarting') clearTimeout(previous.timer)
    if (previous.kind !== 'starting' && previous.kind !== 'ready') return
    const { child } = previous
    if (child.exitCode !== null || child.signalCode !== null) return
    // A device inside a kernel cannot answer; nothing in it needs saving.
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
  }

  #fork(): ChildProcess {
    const child = fork(processFile, [], {
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    let reason: string | undefined
    child.on('message', (message: ChildMessage) => {
      // The last words of a dead process may arrive after its exit, when all of its requests are another's.
      if (!this.#isCurrent(child)) return
      if (message.type === 'failed-to-start') reason = message.message
      else if (message.type === 'note') this.#onEvent({ kind: 'note', message: message.message })
      else this.#receive(child, message)
    })
    child.on('error', (error) => {
      reason ??= error.message
      // A process that never came to be has no exit either.
      if (child.pid === undefined) this.#died(child, reason)
    })
    child.on('exit', (code, signal) => {
      this.#died(child, reason ?? `the device process ended with ${signal ?? `status ${code}`}`)
    })
    child.send({ type: 'start', options: this.#options } satisfies ParentMessage, ignoreSendError)
    return child
  }

  #receive(child: ChildProcess, message: Exclude<ChildMessage, { type: 'failed-to-start' | 'note' }>): void {
    if (message.type === 'ready') {
      this.#state = { kind: 'ready', child }
      this.#models = message.models
      this.#deathsInARow = 0
      for (const { request } of this.#inFlight.values()) this.#send({ type: 'submit', request })
      this.#onEvent({ kind: 'ready', pid: child.pid ?? 0, models: message.models })
      return
    }
    const entry = this.#inFlight.get(message.id)
    if (!entry) return // cancelled here while the message was under way
    switch (message.type) {
      case 'progress':
        entry.started = true
        entry.onProgress?.(message.progress)
        return
      case 'succeeded':
        this.#inFlight.delete(message.id)
        entry.resolve(message.result)
        return
      case 'failed':
        this.#inFlight.delete(message.id)
        entry.reject(new EngineError(message.code, message.message))
    }
  }

  #isCurrent(child: ChildProcess): boolean {
    return 'child' in this.#state && this.#state.child === child
  }

  #died(child: ChildProcess, reason: string): void {
    if (!this.#isCurrent(child)) return
    const delayMs =
      this.#deathsInARow === 0
        ? restartDelayMs.first
        : Math.min(restartDelayMs.base * 2 ** (this.#deathsInARow - 1), restartDelayMs.max)
    this.#deathsInARow += 1
    for (const [id, entry] of this.#inFlight) {
      if (!entry.started) continue
      entry.started = false
      entry.deaths += 1
      if (entry.deaths < maxDeathsPerRequest) continue
      this.#inFlight.delete(id)
      entry.reject(
        new EngineError(
          'device_failed',
          `the device process died ${entry.deaths} times under this request: ${reason}`,
        ),
      )
    }
    const timer = setTimeout(() => {
      this.#state = { kind: 'starting', child: this.#fork() }
    }, delayMs)
    this.#state = { kind: 'restarting', timer }
    this.#onEvent({ kind: 'died', reason, requests: this.#inFlight.size })
  }

  /** Messages to a device that is not ready need no queue: it gets every request in flight when it becomes ready. */
  #send(message: ParentMessage): void {
    if (this.#state.kind === 'ready') this.#state.child.send(message, ignoreSendError)
  }
}

/** A failed send means that the child is gone; its `exit` event deals with that. */
function ignoreSendError(): void {}
