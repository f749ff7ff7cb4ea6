import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import type { TrainingUnit } from '../../src/training/host.ts'
import { checkpointsOf, differing, oneStage, run, stateOf } from './small-run.ts'

/**
 * Kills it as soon as it has told of so many units of that kind; never, when it tells of fewer
 * @returns whether the job came to its end
 */
async function runAndKill(file: string, kind: TrainingUnit['kind'], count: number): Promise<boolean> {
  const script = fileURLToPath(new URL('run-in-process.ts', import.meta.url))
  const child = spawn(process.execPath, [script, file], { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  let units = 0
  for await (const line of createInterface({ input: child.stdout }))
    if (line === kind && ++units === count) child.kill('SIGKILL')
  const [code] = (await exited) as [number | null]
  return code === 0
}

test('a process that is killed, also while it writes a checkpoint, is gone on from with the same bits', async () => {
  const job = await oneStage({ steps: 6 }, { checkpointEvery: 1, keepCheckpoints: 1, maxMicroStepMs: 1e9 })
  await run(job)
  const expected = stateOf(job, '00-000006')
  await rm(job.folder, { recursive: true })
  const file = join(job.manifest, '..', 'job.json')
  await writeFile(file, JSON.stringify(job))
  // While it writes its third checkpoint: the run waits for the disk.
  expect(await runAndKill(file, 'wait', 3)).toBe(false)
  expect((await checkpointsOf(job)).length).toBeGreaterThan(0)
  expect(await runAndKill(file, 'micro-step', 2)).toBe(false)
  expect(await runAndKill(file, 'wait', Infinity)).toBe(true)
  expect(differing(stateOf(job, '00-000006'), expected)).toEqual([])
  expect(await checkpointsOf(job)).toEqual(['00-000005', '00-000006'])
})
