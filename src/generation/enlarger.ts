/** Enlarges pictures in a thread of its own, so that the event loop goes on meanwhile; the first one starts it. */
import { Worker } from 'node:worker_threads'
import type { Picture } from '../engine/pool.ts'

type Size = Pick<Picture, 'width' | 'height'>

export interface EnlargeOrder {
  readonly pixels: Uint8Array
  readonly from: Size
  readonly to: Size
}

type Pixels = Picture['pixels']

export class Enlarger {
  #thread: Worker | undefined
  /** In the order in which the thread answers. */
  #waiting: PromiseWithResolvers<Pixels>[] = []

  /** @returns the picture, enlarged so that it covers that size and cut to it; see `enlarge` */
  async enlarge({ pixels, width, height }: Picture, to: Size): Promise<Picture> {
    const enlarged = Promise.withResolvers<Pixels>()
    this.#thread ??= this.#start()
    this.#waiting.push(enlarged)
    // A copy, since what came from a device may lie in a buffer with more than these pixels.
    const own = pixels.slice()
    const size = { width: to.width, height: to.height }
    const order: EnlargeOrder = { pixels: own, from: { width, height }, to: size }
    this.#thread.postMessage(order, [own.buffer])
    return { pixels: await enlarged.promise, ...size }
  }

  /** Fails what is unfinished. */
  async close(): Promise<void> {
    await this.#thread?.terminate()
  }

  #start(): Worker {
    const thread = new Worker(new URL('enlarge-thread.ts', import.meta.url))
    // Whoever waits for a picture keeps the process alive, if anybody is to.
    thread.unref()
    thread.on('message', (pixels: Pixels) => this.#waiting.shift()?.resolve(pixels))
    let cause: unknown = new Error('the thread that enlarges pictures was ended')
    thread.once('error', (error) => {
      cause = error
    })
    thread.once('exit', () => this.#fail(cause))
    return thread
  }

  /** The next picture starts another thread. */
  #fail(cause: unknown): void {
    const failed = this.#waiting
    this.#waiting = []
    this.#thread = undefined
    for (const { reject } of failed) reject(cause)
  }
}
