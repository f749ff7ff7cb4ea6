/** The thread of an `Enlarger`: one picture after another. */
import { parentPort } from 'node:worker_threads'
import { enlarge } from '../diffusion/enlarge.ts'
import type { EnlargeOrder } from './enlarger.ts'

parentPort?.on('message', ({ pixels, from, to }: EnlargeOrder) => {
  const enlarged = enlarge(pixels, from, to)
  parentPort?.postMessage(enlarged, [enlarged.buffer])
})
