/** The child process of one device: opens the models, then runs the loop and talks to its parent. */
import { Errands } from './errands.ts'
import { Jobs } from './jobs.ts'
import { Loop } from './loop.ts'
import { describePlan } from './memory-plan.ts'
import { openDevice } from './open-device.ts'
import type { ChildMessage, DeviceOptions, ParentMessage } from './protocol.ts'
import { trainer } from './trainer.ts'

// Whatever kills the parent closes the channel: nobody would read the results any more.
process.on('disconnect', () => process.exit())
// Ctrl-C and service managers signal every process of the group; when this one ends is its parent's to decide.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => undefined)

/** Until the models are open there is none; then the parent is told, and sends work. */
let device: WorkingDevice | undefined

interface WorkingDevice {
  readonly loop: Loop
  readonly jobs: Jobs
  readonly errands: Errands
}

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
      device?.jobs.giveWay()
      return device?.loop.submit(message.request)
    case 'cancel':
      return device?.loop.cancel(message.id)
    case 'train':
      return device?.jobs.train(message.job, message.others)
    case 'pause-training':
      return device?.jobs.pause(message.job)
    case 'cancel-training':
      return device?.jobs.cancel(message.job)
    case 'order':
      return device?.jobs.hearOfOrder(message, message.news)
    case 'helpers':
      return device?.jobs.hearOfHelpers(message.job, message.free)
    case 'assist':
      return device?.jobs.assist(message.job, message.round, message.order)
    case 'dismiss':
      return device?.jobs.dismiss(message.job)
    case 'errand':
      device?.jobs.giveWay()
      return device?.errands.begin(message.id, message.errand)
  }
})

async function start(options: DeviceOptions): Promise<void> {
  const opened = await openDevice(options, (message) => tell({ type: 'note', message }))
  const { pipelines, residency, books, limits, provider } = opened
  for (const { model } of pipelines)
    tell({ type: 'plan', model: model.description.name, lines: describePlan(model.plan) })
  const { name, trainingShare } = options
  const loop = new Loop({ device: name, residency, books, limits, trainingShare, tell })
  device = {
    loop,
    jobs: new Jobs({ background: loop.background, trainer, provider, tell }),
    errands: new Errands({ loop, device: opened, trainer, tell }),
  }
  loop.tellCosts()
  tell({ type: 'ready', models: residency.infos })
  await loop.run()
}

function tell(message: ChildMessage, sent?: () => void): void {
  // A failed send means that the parent is gone, and `disconnect` ends this process.
  process.send?.(message, undefined, undefined, () => sent?.())
}
