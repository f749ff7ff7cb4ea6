/** What crosses the border of the engine for training, for models that come and go, and between a job's devices. Plain values only. */
import type { Line } from './costs.ts'
import type { MicroBatchOrder, Peers } from '../training/host.ts'
import type { TrainingEvent, TrainingJob, TrainingOutcome } from '../training/job.ts'

export interface ModelFolder {
  readonly name: string
  /** A checkpoint in the diffusers layout. */
  readonly folder: string
}

export interface ExportOrder {
  readonly job: TrainingJob
  /** Relative to the job's folder, as its events name it. */
  readonly checkpoint: string
  /** `model`: a folder that must not exist, made in the diffusers layout. `adapter`: a folder for the adapter's safetensors. */
  readonly out: string
  readonly form: 'model' | 'adapter'
}

/** Something that a device does once and answers for. */
export type Errand =
  /** Opens and loads a model beside those that serve. */
  | { readonly kind: 'open'; readonly model: ModelFolder }
  /** The opened one takes its name over: who comes from now on gets it. */
  | { readonly kind: 'put-live'; readonly name: string }
  /** What was opened is not wanted after all. */
  | { readonly kind: 'discard'; readonly name: string }
  /** The name is not served any more; what was begun ends. */
  | { readonly kind: 'withdraw'; readonly name: string }
  | { readonly kind: 'export'; readonly order: ExportOrder }

/** Which of a job's orders: every offer begins a new round, and what belongs to an earlier one is void. */
export interface OrderKey {
  readonly job: string
  readonly round: number
  readonly microBatch: number
}

export type TrainingParentMessage =
  /** `others`: devices that could help. */
  | { readonly type: 'train'; readonly job: TrainingJob; readonly others: number }
  | { readonly type: 'pause-training'; readonly job: string }
  | { readonly type: 'cancel-training'; readonly job: string }
  /** To a job's home: what became of an order. */
  | ({ readonly type: 'order' } & OrderKey & { readonly news: OrderNews })
  /** To a job's home: whether anybody could help just now. */
  | { readonly type: 'helpers'; readonly job: string; readonly free: Peers['free'] }
  /** To a device that is free: one micro-batch of another one's job. */
  | {
      readonly type: 'assist'
      readonly job: TrainingJob
      readonly round: number
      readonly order: MicroBatchOrder
    }
  /** The job is over: what was kept to assist it can go. */
  | { readonly type: 'dismiss'; readonly job: string }
  | { readonly type: 'errand'; readonly id: string; readonly errand: Errand }

export type OrderNews =
  | { readonly kind: 'taken' }
  | { readonly kind: 'done'; readonly file: string }
  | { readonly kind: 'lost'; readonly reason: string }

export type TrainingChildMessage =
  | { readonly type: 'training'; readonly job: string; readonly news: TrainingNews }
  /** From a job's home: what other devices may take. */
  | {
      readonly type: 'offer'
      readonly job: string
      readonly round: number
      readonly orders: readonly MicroBatchOrder[]
    }
  /** The home computes this one itself. */
  | ({ readonly type: 'kept' } & OrderKey)
  /** The home has come to this one, which another device has taken. */
  | ({ readonly type: 'awaited' } & OrderKey)
  | ({ readonly type: 'assisted' } & OrderKey & { readonly result: AssistanceResult })
  | { readonly type: 'errand-ended'; readonly id: string; readonly error?: string }

export type TrainingNews =
  /** Its first unit of work begins. */
  | { readonly kind: 'begun' }
  | { readonly kind: 'event'; readonly event: TrainingEvent }
  | { readonly kind: 'ended'; readonly outcome: TrainingOutcome }
  | { readonly kind: 'failed'; readonly message: string }

export type AssistanceResult =
  | { readonly kind: 'done'; readonly file: string }
  /** Requests or an errand came before it was begun. */
  | { readonly kind: 'declined' }
  | { readonly kind: 'failed'; readonly message: string }

/** What a device did besides serving. */
export interface TrainingLoad {
  /** That is at home here: at work, giving way to requests, or waiting for other devices. */
  readonly job: string | undefined
  /** Device time so far: of jobs that are at home here, and of micro-batches of others' jobs. */
  readonly deviceMs: number
  readonly units: number
  /** Optimiser steps that were taken here. */
  readonly steps: number
}

/** What a model takes in memory, from its headers. */
export interface ModelMemory {
  /** Weights, in the type that they are computed in. */
  readonly weightBytes: {
    readonly textEncoder: number
    readonly transformer: number
    readonly vae: number
  }
  /** Of the transformer's activations that serving holds for each row · token. */
  readonly bytesPerRowToken: number
  /** What a device's process may take; the machine's memory when no limit is set. */
  readonly limitBytes: number
}

/** What planning a job on a model needs to know, measured where it could be. */
export interface TrainingCosts extends ModelMemory {
  /** Of the forward pass in the serving lowering; units: rows · tokens. */
  readonly step: Line
  /** Units: prompts. */
  readonly encode: Line
  /** One for each part of a decode; units: latent pixels. */
  readonly decode: readonly Line[]
  readonly devices: number
}
