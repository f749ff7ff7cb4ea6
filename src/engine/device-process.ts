/** The child process of one device: opens the models, then runs the loop and talks to its parent. */
import { Loop } from './loop.ts'
import { describePlan } from './memory-plan.ts'
import { openDevice } from './open-device.ts'
import type { ChildMessage, DeviceOptions, ParentMessage } from './protocol.ts'

// Whatever kills the parent closes the channel: nobody would read the results any more.
process.on('disconnect', () => process.exit())
// Ctrl-C and service managers signal every process of the group; when this one ends is its parent's to decide.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => undefined)

let loop: Loop | undefined

process.on('message', (message: ParentMessage) => {
  switch (message.type) {
    case 'start':
      start(message.options).catch((error: unknown) => {
        tell(
          { type: 'failed-to-start', message: error instanceof Error ? error.message : String(error) },
          () => process.exit(1),
        )
      })
      return
    case 'submit':
      loop?.submit(message.request)
      return
    case 'cancel':
      loop?.cancel(message.id)
      return
    case 'train':
    case 'pause-training':
    case 'cancel-training':
    case 'order':
    case 'assist':
    case 'dismiss':
    case 'errand':
  }
})

async function start(options: DeviceOptions): Promise<void> {
  const { pipelines, residency, books, limits } = await openDevice(options, (message) =>
    tell({ type: 'note', message }),
  )
  for (const { model } of pipelines)
    tell({ type: 'plan', model: model.description.name, lines: describePlan(model.plan) })
  loop = new Loop({ device: options.name, residency, books, limits, tell })
  tell({ type: 'costs', costs: Object.fromEntries([...books].map(([name, book]) => [name, book.costs])) })
  tell({ type: 'ready', models: residency.infos })
  await loop.run()
}

function tell(message: ChildMessage, sent?: () => void): void {
  // A failed send means that the parent is gone, and `disconnect` ends this process.
  process.send?.(message, undefined, undefined, () => sent?.())
}
