/** The process that measures one component: it is sent a task, sends what it measured, and ends. */
import { once } from 'node:events'
import { measure, type Task } from './measure.ts'

const [task] = (await once(process, 'message')) as [Task]
const measured = await measure(task)
process.send?.(measured, undefined, undefined, () => process.disconnect())
