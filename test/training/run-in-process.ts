/** Runs a job in a process of its own, which a test may kill: `node run-in-process.ts JOB.json`. Says a line for every yield. */
import { readFile } from 'node:fs/promises'
import { setTimeout } from 'node:timers/promises'
import type { TrainingJob } from '../../src/training/job.ts'
import { train } from '../../src/training/train.ts'
import { sessions } from './serving.ts'

const job = JSON.parse(await readFile(process.argv[2]!, 'utf8')) as TrainingJob
const units = train(job, { ...sessions, tell: () => undefined, pause: new AbortController().signal })
for (;;) {
  const { done, value } = await units.next()
  process.stdout.write(`${value.kind}\n`)
  if (done) break
  // Long enough for whoever listens to say that this was the last one.
  if (value.kind !== 'wait') await setTimeout(20)
}
