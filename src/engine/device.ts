/** The parent's handle of one device process: start it, talk to it, and when it dies start another. */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Costs } from './costs.ts'
import { DeviceTalks, type JobHandlers, type OrderMessage } from './device-talks.ts'
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
import type { Errand, ModelFolder, ModelMemory } from './training-protocol.ts'
import type { TrainingJob, TrainingOutcome } from '../training/job.ts'

const processFile = fileURLToPath(new URL('device-process.ts', import.meta.url))

const restartDelayMs = { first: 0, base: 250, max: 10_000 }

export type DeviceEvent = { readonly device: string } & (
  | { readonly kind: 'note'; readonly message: string }
  | { readonly kind: 'plan'; readonly model: string; readonly lines: readonly string[] }
  | { readonly kind: 'ready'; readonly pid: number; readonly models: readonly ModelInfo[] }
  | { readonly kind: 'died'; readonly reason: string; readonly requests: number }
)

export interface DeviceListeners {
  readonly onEvent: (event: DeviceEvent) => void
  /** What the device says to others. */
  readonly onOrder: (device: Device, message: OrderMessage) => void
  /** It may do now what it could not before. */
  readonly onFree: () => void
}

/** The device's process died while it held a request, a job or an errand. */
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
  denoisingTokens: 0,
  textEncodings: 0,
  promptCacheHits: 0,
  promptCacheBytes: 0,
  servingMs: 0,
  training: { job: undefined, deviceMs: 0, units: 0, steps: 0 },
}

export class Device {
  readonly #options: DeviceOptions
  readonly #listeners: DeviceListeners
  /** What it is to serve, by name, as the pool has it: a process that is started opens these. */
  readonly #folders: ReadonlyMap<string, string>
  /** What its process serves. */
  readonly #served = new Map<string, string>()
  /** What its process has opened to serve next. */
  readonly #prepared = new Map<string, string>()
  readonly #talks: DeviceTalks
  readonly #inFlight = new Map<string, InFlight>()
  #state: DeviceState
  #models: readonly ModelInfo[] = []
  #costs: Readonly<Record<string, Costs>> = {}
  #memory: Readonly<Record<string, ModelMemory>> = {}
  #load = idle
  #deathsInARow = 0

  /**
   * Starts the process and resolves when its first model is loaded.
   * @param folders where the models lie that it is to serve, by name; they may change
   * @throws {EngineError} device_failed, with the child's own words, when it cannot start the first time
   */
  static async start(
    options: DeviceOptions,
    folders: ReadonlyMap<string, string>,
    listeners: DeviceListeners,
  ): Promise<Device> {
    const first = Promise.withResolvers<void>()
    let hasStarted = false
    const onEvent = (event: DeviceEvent): void => {
      if (event.kind === 'ready') first.resolve()
      // A device that cannot even start is not started again: the error is all that is told.
      if (event.kind === 'died' && !hasStarted) first.reject(new EngineError('device_failed', event.reason))
      else listeners.onEvent(event)
    }
    const device = new Device(options, folders, { ...listeners, onEvent })
    try {
      await first.promise
      hasStarted = true
    } catch (error) {
      await device.close()
      throw error
    }
    return device
  }

  private constructor(
    options: DeviceOptions,
    folders: ReadonlyMap<string, string>,
    listeners: DeviceListeners,
  ) {
    this.#options = options
    this.#folders = folders
    this.#listeners = listeners
    this.#talks = new DeviceTalks(
      (message) => this.send(message),
      (message) => listeners.onOrder(this, message),
    )
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

  /** Jobs that are at home here. */
  get jobs(): number {
    return this.#talks.jobs
  }

  /** It has nothing to do, and could help another one. */
  get isFree(): boolean {
    const { jobs, errands } = this.#talks
    return this.#state.kind === 'ready' && this.requests === 0 && jobs === 0 && errands === 0
  }

  costsOf(model: string): Costs | undefined {
    return this.#costs[model]
  }

  memoryOf(model: string): ModelMemory | undefined {
    return this.#memory[model]
  }

  /** Whether a request for the name can be sent here now. */
  serves(model: string): boolean {
    const folder = this.#served.get(model)
    return this.#state.kind === 'ready' && folder !== undefined && folder === this.#folders.get(model)
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
    this.#requireReady()
    const { promise, resolve, reject } = Promise.withResolvers<ImageResult>()
    const entry: InFlight = { onProgress, resolve, reject, tokens, isStarted: false }
    const abort = () => {
      if (this.#inFlight.get(request.id) !== entry) return
      this.#inFlight.delete(request.id)
      this.send({ type: 'cancel', id: request.id })
      reject(signal?.reason)
    }
    signal?.addEventListener('abort', abort, { once: true })
    this.#inFlight.set(request.id, entry)
    this.send({ type: 'submit', request })
    try {
      return await promise
    } finally {
      signal?.removeEventListener('abort', abort)
    }
  }

  /** @throws {DeviceDied} when the process is not there or dies; {@link EngineError} training_failed */
  async train(job: TrainingJob, handlers: JobHandlers): Promise<TrainingOutcome> {
    this.#requireReady()
    return this.#talks.train(job, handlers)
  }

  /** Loads a model beside what is served. @throws {DeviceDied}; {@link EngineError} deploy_failed */
  async prepare(model: ModelFolder): Promise<void> {
    await this.errand({ kind: 'open', model })
    this.#prepared.set(model.name, model.folder)
  }

  /**
   * What was prepared takes its name over; requests that are sent from now on find it. A process that has not prepared it does now;
   * where it cannot, the operator hears of it and the device serves the other models.
   */
  async putLive({ name, folder }: ModelFolder): Promise<void> {
    if (this.#state.kind !== 'ready') return
    try {
      if (this.#prepared.get(name) !== folder) await this.prepare({ name, folder })
      this.#prepared.delete(name)
      this.#served.set(name, folder)
      const done = this.errand({ kind: 'put-live', name })
      this.#listeners.onFree()
      await done
    } catch (error) {
      // One that died opens it when it starts again.
      if (error instanceof DeviceDied) return
      const reason = error instanceof Error ? error.message : String(error)
      const message = `it does not serve ${name}: ${reason}`
      this.#listeners.onEvent({ kind: 'note', device: this.name, message })
    }
  }

  /** What was prepared is not wanted after all. */
  async discard(name: string): Promise<void> {
    if (this.#prepared.delete(name)) await this.errand({ kind: 'discard', name })
  }

  /** A process that is starting hears of it when it is ready. @throws {DeviceDied} */
  async withdraw(name: string): Promise<void> {
    if (this.#state.kind !== 'ready' || !this.#served.delete(name)) return
    await this.errand({ kind: 'withdraw', name })
  }

  /** @throws {DeviceDied} when the process is not there or dies; {@link EngineError} deploy_failed or export_failed */
  async errand(errand: Errand): Promise<void> {
    this.#requireReady()
    try {
      await this.#talks.errand(errand)
    } finally {
      if (this.isFree) this.#listeners.onFree()
    }
  }

  #requireReady(): void {
    if (this.#state.kind !== 'ready')
      throw new DeviceDied(this.name, `the device is ${this.#state.kind}`, false)
  }

  /** Ends the process. Requests still in flight reject with device_failed. */
  async close(): Promise<void> {
    const previous = this.#state
    this.#state = { kind: 'closed' }
    for (const { reject } of this.#inFlight.values())
      reject(new EngineError('device_failed', 'the device was closed'))
    this.#inFlight.clear()
    this.#talks.end(() => new EngineError('device_failed', 'the device was closed'))
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
    const models = Array.from(this.#folders, ([name, folder]) => ({ name, folder }))
    this.#prepared.clear()
    this.#served.clear()
    for (const { name, folder } of models) this.#served.set(name, folder)
    const options = { ...this.#options, models }
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
    child.send({ type: 'start', options } satisfies ParentMessage, ignoreSendError)
    return child
  }

  #receive(child: ChildProcess, message: Exclude<ChildMessage, { type: 'failed-to-start' }>): void {
    // What a dead process said last may come after its end; its requests are somewhere else by then.
    if (this.#state.kind === 'closed' || this.#state.kind === 'restarting' || this.#state.child !== child)
      return
    switch (message.type) {
      case 'note':
        this.#listeners.onEvent({ kind: 'note', device: this.name, message: message.message })
        return
      case 'plan':
        this.#listeners.onEvent({
          kind: 'plan',
          device: this.name,
          model: message.model,
          lines: message.lines,
        })
        return
      case 'ready':
        this.#state = { kind: 'ready', child }
        this.#models = message.models
        this.#deathsInARow = 0
        this.#listeners.onEvent({
          kind: 'ready',
          device: this.name,
          pid: child.pid ?? 0,
          models: message.models,
        })
        this.#listeners.onFree()
        // What changed while the process was starting.
        for (const [name, folder] of this.#folders)
          if (this.#served.get(name) !== folder) void this.putLive({ name, folder })
        for (const name of this.#served.keys())
          // One that dies starts again without it.
          if (!this.#folders.has(name)) this.withdraw(name).catch(() => undefined)
        return
      case 'models':
        this.#models = message.models
        return
      case 'costs':
        this.#costs = message.costs
        this.#memory = message.memory
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
      case 'awaited':
      case 'assisted':
      case 'errand-ended':
        this.#talks.hear(message)
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
    const training = { ...this.#load.training, job: undefined }
    this.#load = { ...this.#load, backlogMs: 0, batchRows: 0, training }
    this.#listeners.onEvent({ kind: 'died', device: this.name, reason, requests: this.#inFlight.size })
    const orphans = [...this.#inFlight.values()]
    this.#inFlight.clear()
    for (const { reject, isStarted } of orphans) reject(new DeviceDied(this.name, reason, isStarted))
    this.#talks.end((state) => new DeviceDied(this.name, reason, state === 'begun'))
  }

  /** To a process that is not there it is lost. */
  send(message: ParentMessage): void {
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
