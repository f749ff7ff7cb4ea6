/** What a run is given by whoever lets it run: sessions on a device, and somewhere to tell. */
import type { Graph } from '../graph/ir.ts'
import type { LoweringName } from '../models/lowering.ts'
import type { TensorLocation } from '../weights/safetensors.ts'
import type { TrainingEvent } from './job.ts'

export interface Tensor {
  readonly dtype: 'float32' | 'int32'
  readonly data: Float32Array | Int32Array
  readonly dims: readonly number[]
}

export interface TrainingSession {
  /** @param into buffers to write outputs into, by name; others are allocated */
  run(
    feeds: Readonly<Record<string, Tensor>>,
    into?: Readonly<Record<string, Float32Array>>,
  ): Promise<Readonly<Record<string, { readonly data: Float32Array; readonly dims: readonly number[] }>>>
  close(): Promise<void>
}

export interface SessionNeeds {
  /** Parameters that lie in files; those of the graph that are not among them are fed at every run, as inputs. */
  readonly weights: ReadonlyMap<string, TensorLocation>
  /** Buffers go back to the system after each run, at the price of new page faults. */
  readonly buffers?: 'kept' | 'returned'
  /**
   * What becomes of weights that lie in files: a private packed copy for each session, or the mapped file that all sessions share.
   * Shared when left out.
   */
  readonly frozen?: 'packed' | 'shared'
}

/** What a run computes with. */
export interface TrainingDevice {
  openSession(graph: Graph, needs: SessionNeeds): Promise<TrainingSession>
  /** The form of the models' graphs that serving has here: a provider's fused kernels may be wrong. */
  readonly lowering: Exclude<LoweringName, 'train'>
}

export interface TrainingHost extends TrainingDevice {
  tell(event: TrainingEvent): void
  /** Aborted: the run saves and ends as soon as it can. */
  readonly pause: AbortSignal
  /** Micro-batches that other devices take; undefined when there is one device. */
  readonly peers?: Peers | undefined
}

/** Where one micro-batch's gradients are to be computed from: weights in a file, everything else follows from the job. */
export interface MicroBatchOrder {
  readonly stage: number
  readonly step: number
  readonly microBatch: number
  /** Trained weights, safetensors. */
  readonly weights: string
}

/** The other devices that are free; they come and go. */
export interface Peers {
  /** Could take something just now: an offer to nobody is not worth writing its weights. */
  readonly free: 'someone' | 'nobody'
  /** Lets them take these, the last first; whatever was open before is withdrawn. */
  offer(orders: readonly MicroBatchOrder[]): void
  /**
   * The file of a micro-batch's gradients and loss; `'open'` while nobody has taken it, which then nobody else can;
   * a promise while another device is at it, which rejects when that device is gone.
   */
  take(microBatch: number): 'open' | Promise<string>
}

/** A unit of work that was just done, or something to wait for; between two of them the device may do other work. */
export type TrainingUnit =
  | { readonly kind: 'prepare' | 'micro-step' | 'update' | 'evaluate' | 'sample' | 'save' }
  /** `until` never rejects. */
  | { readonly kind: 'wait'; readonly until: Promise<unknown> }
