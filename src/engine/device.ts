/** The parent's handle of one device process: start it, talk to it, and when it dies start another. */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Costs } from './costs.ts'
import {
  EngineError,
  type ChildMessage,
  type DeviceLoad,
  type DeviceOptions,
  type ImageProgress,
  type ImageRequest,
  type ImageResult,
  type ModelInfo,
  type ParentMessage,
} from './protocol.ts'

const processFile = fileURLToPath(new URL('device-process.ts', import.meta.url))

const restartDelayMs = { first: 0, base: 250, max: 10_000 }

export type DeviceEvent = { readonly device: string } & (
  | { readonly kind: 'note'; readonly message: string }
  | { readonly kind: 'plan'; readonly model: string; readonly lines: readonly string[] }
  | { readonly kind: 'ready'; readonly pid: number; readonly models: readonly ModelInfo[] }
  | { readonly kind: 'died'; readonly reason: string; readonly requests: number }
)

/** The device's process died while it held a request. */
export class DeviceDied extends Error {
  override readonly name = 'DeviceDied'
  readonly device: string
  /** Work on the request had begun: it may be the cause. */
  readonly wasStarted: boolean
  constructor(device: string, reason: string, wasStarted: boolean) {
    super(reason)
    this.device = device
    this.wasStarted = wasStarted
  }
}

interface InFlight {
  readonly onProgress: ((progress: ImageProgress) => void) | undefined
  readonly resolve: (result: ImageResult) => void
  readonly reject: (error: unknown) => void
  readonly tokens: number
  isStarted: boolean
}

type DeviceState =
  | { readonly kind: 'starting'; readonly child: ChildProcess }
  | { readonly kind: 'ready'; readonly child: ChildProcess }
  | { readonly kind: 'restarting'; readonly timer: NodeJS.Timeout }
  | { readonly kind: 'closed' }

const idle: DeviceLoad = {
  backlogMs: 0,
  batchRows: 0,
  unitsOfWork: 0,
  denoisingCalls: 0,
  denoisingRows: 0,
  textEncodings: 0,
  promptCacheHits: 0,
  promptCacheBytes: 0,
  servingMs: 0,
  training: { job: undefined, deviceMs: 0, units: 0, steps: 0 },
}

export class Device {
  readonly #options: DeviceOptions
  readonly #onEvent: (event: DeviceEvent) => void
  readonly #inFlight = new Map<string, InFlight>()
  #state: DeviceState
  #models: readonly ModelInfo[] = []
  #costs: Readonly<Record<string, Costs>> = {}
  #load = idle
  #deathsInARow = 0

  /**
   * Starts the process and resolves when its first model is loaded.
   * @throws {EngineError} device_failed, with the child's own words, when it cannot start the first time
   */
  static async start(options: DeviceOptions, onEvent: (event: DeviceEvent) => void): Promise<Device> {
    const first = Promise.withResolvers<void>()
    let hasStarted = false
    const device = new Device(options, (event) => {
      if (event.kind === 'ready') first.resolve()
      // A device that cannot even start is not started again: the error is all that is told.
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

  get name(): string {
    return this.#options.name
  }

  get state(): DeviceState['kind'] {
    return this.#state.kind
  }

  get models(): readonly ModelInfo[] {
    return this.#models
  }

  get load(): DeviceLoad {
    return this.#load
  }

  /** Requests that wait or run here. */
  get requests(): number {
    return this.#inFlight.size
  }

  costsOf(model: string): Costs | undefined {
    return this.#costs[model]
  }

  /** Whether a request with this many image tokens is here already, so that they may share batches. */
  hasTokens(tokens: number): boolean {
    return this.#inFlight.values().some((entry) => entry.tokens === tokens)
  }

  /**
   * @param tokens image tokens of the request
   * @param signal when aborted, the request leaves the device between two steps and the promise rejects with its reason at once
   * @throws {DeviceDied} when the process is not there or dies; {@link EngineError} with what the device said
   */
  async generate(
    request: ImageRequest,
    tokens: number,
    {
      signal,
      onProgress,
    }: { readonly signal?: AbortSignal | undefined; readonly onProgress?: InFlight['onProgress'] },
  ): Promise<ImageResult> {
    signal?.throwIfAborted()
    if (this.#state.kind !== 'ready')
      throw new DeviceDied(this.name, `the device is ${this.#state.kind}`, false)
    const { promise, resolve, reject } = Promise.withResolvers<ImageResult>()
    const entry: InFlight = { onProgress, resolve, reject, tokens, isStarted: false }
    const abort = () => {
      if (this.#inFlight.get(request.id) !== entry) return
      this.#inFlight.delete(request.id)
      this.#send({ type: 'cancel', id: request.id })
      reject(signal?.reason)
    }
    signal?.addEventListener('abort', abort, { once: true })
    this.#inFlight.set(request.id, entry)
    this.#send({ type: 'submit', request })
    try {
      return await promise
    } finally {
      signal?.removeEventListener('abort', abort)
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
      ...pinnedTo(this.#options.device.cores),
    })
    let reason: string | undefined
    child.on('message', (message: ChildMessage) => {
      if (message.type === 'failed-to-start') reason = message.message
      else this.#receive(child, message)
    })
    child.on('error', (error) => {
      reason ??= error.message
      // A process that could not be made never exits.
      if (child.pid === undefined) this.#died(child, reason)
    })
    child.on('exit', (code, signal) => {
      this.#died(child, reason ?? `the device process ended with ${signal ?? `status ${code}`}`)
    })
    child.send({ type: 'start', options: this.#options } satisfies ParentMessage, ignoreSendError)
    return child
  }

  #receive(child: ChildProcess, message: Exclude<ChildMessage, { type: 'failed-to-start' }>): void {
    // What a dead process said last may come after its end; its requests are somewhere else by then.
    if (this.#state.kind === 'closed' || this.#state.kind === 'restarting' || this.#state.child !== child)
      return
    switch (message.type) {
      case 'note':
        this.#onEvent({ kind: 'note', device: this.name, message: message.message })
        return
      case 'plan':
        this.#onEvent({ kind: 'plan', device: this.name, model: message.model, lines: message.lines })
        return
      case 'ready':
        this.#state = { kind: 'ready', child }
        this.#models = message.models
        this.#deathsInARow = 0
        this.#onEvent({ kind: 'ready', device: this.name, pid: child.pid ?? 0, models: message.models })
        return
      case 'models':
        this.#models = message.models
        return
      case 'costs':
        this.#costs = message.costs
        return
      case 'load':
        this.#load = message.load
        return
      case 'progress':
      case 'succeeded':
      case 'failed':
        return this.#receiveOutcome(message)
      case 'training':
      case 'offer':
      case 'kept':
      case 'assisted':
      case 'errand-ended':
    }
  }

  #receiveOutcome(message: Extract<ChildMessage, { type: 'progress' | 'succeeded' | 'failed' }>): void {
    const entry = this.#inFlight.get(message.id)
    if (!entry) return // cancelled here while the message was under way
    switch (message.type) {
      case 'progress':
        entry.isStarted = true
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

  #died(child: ChildProcess, reason: string): void {
    if (this.#state.kind === 'closed' || this.#state.kind === 'restarting' || this.#state.child !== child)
      return
    const delayMs =
      this.#deathsInARow === 0
        ? restartDelayMs.first
        : Math.min(restartDelayMs.base * 2 ** (this.#deathsInARow - 1), restartDelayMs.max)
    this.#deathsInARow += 1
    const timer = setTimeout(() => {
      this.#state = { kind: 'starting', child: this.#fork() }
    }, delayMs)
    this.#state = { kind: 'restarting', timer }
    this.#load = { ...this.#load, backlogMs: 0, batchRows: 0 }
    this.#onEvent({ kind: 'died', device: this.name, reason, requests: this.#inFlight.size })
    const orphans = [...this.#inFlight.values()]
    this.#inFlight.clear()
    for (const { reject, isStarted } of orphans) reject(new DeviceDied(this.name, reason, isStarted))
  }

  #send(message: ParentMessage): void {
    if (this.#state.kind === 'ready') this.#state.child.send(message, ignoreSendError)
  }
}

/** A failed send means that the child is gone; its `exit` event deals with that. */
function ignoreSendError(): void {}

const taskset = '/usr/bin/taskset'

/** Node cannot bind a process to cores; util-linux's taskset can, where it is installed. Elsewhere only the number of threads holds. */
function pinnedTo(cores: readonly [number, number] | undefined): { execPath?: string; execArgv?: string[] } {
  if (!cores || !existsSync(taskset)) return {}
  return {
    execPath: taskset,
    execArgv: ['--cpu-list', `${cores[0]}-${cores[1]}`, process.execPath, ...process.execArgv],
  }
}
