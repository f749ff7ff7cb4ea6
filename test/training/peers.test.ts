import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openAssistant } from '../../src/training/assistant.ts'
import type { MicroBatchOrder, Peers } from '../../src/training/host.ts'
import type { TrainingJob } from '../../src/training/job.ts'
import { differing, oneStage, run, stateOf } from './small-run.ts'
import { sessions } from './serving.ts'

/**
 * Another device in the same process, which takes a micro-batch whenever it has none.
 * @param dies whether the device is gone when that order of it comes, from 0
 */
function otherDevice(job: TrainingJob, dies: (order: number) => boolean) {
  const assistant = openAssistant(job, sessions)
  let open: MicroBatchOrder[] = []
  let taken = new Map<number, Promise<string>>()
  let orders = 0
  let atWork: Promise<void> | undefined
  const next = (): void => {
    const order = open.pop()
    if (!order || atWork) {
      if (order) open.push(order)
      return
    }
    const number = orders++
    const file = join(job.folder, 'exchange', `gradients-${order.step}-${order.microBatch}-${number}`)
    const computed = dies(number)
      ? Promise.reject(new Error('the device is gone'))
      : assistant.compute(order, file).then(() => file)
    taken.set(order.microBatch, computed)
    atWork = goOnAfter(computed)
  }
  const goOnAfter = async (computed: Promise<string>): Promise<void> => {
    await computed.catch(() => undefined)
    atWork = undefined
    next()
  }
  const peers: Peers = {
    free: 'someone',
    offer: (offered) => {
      open = [...offered]
      taken = new Map()
      next()
    },
    take: (microBatch) => {
      const delivered = taken.get(microBatch)
      if (delivered) return delivered
      open = open.filter((order) => order.microBatch !== microBatch)
      return 'open'
    },
  }
  return { peers, orders: () => orders, close: () => assistant.close() }
}

test('with another device, which dies now and then, a job ends with the same bits as alone', async () => {
  const job = await oneStage({ steps: 4 })
  await run(job)
  const expected = stateOf(job, '00-000004')
  await rm(job.folder, { recursive: true })
  const device = otherDevice(job, (order) => order % 3 === 1)
  const { outcome } = await run(job, { host: { peers: device.peers } })
  await device.close()
  expect(outcome).toEqual({ kind: 'succeeded' })
  expect(device.orders()).toBeGreaterThanOrEqual(4)
  expect(differing(stateOf(job, '00-000004'), expected)).toEqual([])
  expect(existsSync(join(job.folder, 'exchange', 'weights-00-000000.safetensors'))).toBe(false)
})

test('an order whose weights are gone fails, and the next one is computed', async () => {
  const job = await oneStage({ steps: 1 })
  const orders: MicroBatchOrder[] = []
  const assistant = openAssistant(job, sessions)
  const results: string[] = []
  await run(job, {
    host: {
      peers: {
        free: 'someone',
        offer: (offered) => void orders.push(...offered),
        take: (microBatch) => {
          const order = orders.find((one) => one.microBatch === microBatch)!
          if (microBatch !== 3) return 'open'
          const out = join(job.folder, 'gradients')
          const lost = assistant
            .compute({ ...order, weights: `${order.weights}.gone` }, out)
            .catch((error: Error) => {
              results.push(error.message)
              return assistant.compute(order, out)
            })
          return lost.then(() => {
            results.push('computed')
            return out
          })
        },
      },
    },
  })
  await assistant.close()
  expect(results[0]).toMatch(/weights-00-000000\.safetensors\.gone/)
  expect(results[1]).toBe('computed')
})
