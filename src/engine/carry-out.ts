/** One unit of requests' work, as the policy chose it: what the pipeline is called for, and the states that it leaves the tasks in. */
import type { Work } from './batch.ts'
import type { Denoising } from './denoising.ts'
import type { Residency } from './residency.ts'
import { isIn, type Task, type TaskIn, type TaskState } from './task.ts'

/** @returns the state that each of the work's tasks is in afterwards */
export async function carryOut(
  { kind, tasks }: Work<Task>,
  residency: Residency,
): Promise<readonly TaskState[]> {
  const [{ pipeline }] = tasks
  switch (kind) {
    case 'load':
      await residency.load(pipeline, tasks[0].stage)
      return tasks.map(({ state }) => state)
    case 'encode': {
      const rows = await pipeline.encode(tasks.map(({ prepared }) => prepared))
      return tasks.map(({ request, prepared }, index) => {
        const noise = { kind: 'seed', seed: request.seed, index: request.seedIndex } as const
        return { phase: 'denoise', denoising: pipeline.begin(prepared, rows[index]!, request, noise) }
      })
    }
    case 'denoise': {
      const denoisings = tasks.filter((task) => isIn(task, 'denoise')).map((task) => askForEstimate(task))
      await pipeline.step(denoisings)
      return denoisings.map((denoising) =>
        denoising.step === denoising.solver.steps
          ? { phase: 'decode', denoising, part: 0, hidden: pipeline.decoderInput(denoising) }
          : { phase: 'denoise', denoising },
      )
    }
    case 'preview':
      return Promise.all(
        tasks
          .filter((task) => isIn(task, 'preview'))
          .map(async ({ request, state: { denoising } }) => {
            const preview = await pipeline.preview(denoising, request.previews?.maxSide ?? 0)
            return { phase: 'denoise', denoising, preview } as const
          }),
      )
    case 'decode': {
      const decoding = tasks.filter((task) => isIn(task, 'decode'))
      const part = decoding[0]?.state.part ?? 0
      const outputs = await pipeline.decodePart(
        part,
        decoding.map(({ state }) => state.hidden),
      )
      return decoding.map(({ state: { denoising } }, index) => {
        const hidden = outputs[index]!
        if (part + 1 < pipeline.model.decoderParts)
          return { phase: 'decode', denoising, part: part + 1, hidden }
        return { phase: 'done', denoising, pixels: pipeline.finishPixels(hidden, denoising) }
      })
    }
  }
}

/** The step before a preview must leave an estimate of the finished latents; no other step spends time on one. */
function askForEstimate({ request, state: { denoising } }: TaskIn<'denoise'>): Denoising {
  if (request.previews?.steps.includes(denoising.step + 1)) {
    denoising.cleanEstimate ??= new Float32Array(denoising.latents.length)
  } else delete denoising.cleanEstimate
  return denoising
}
