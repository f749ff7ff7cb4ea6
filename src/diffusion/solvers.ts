/** The solvers by name: noise predictions in, cleaner latents out. */
import { createNoiseSchedule } from './noise-schedule.ts'
import type { NoiseSchedule } from './noise-schedule.ts'
import type { SchedulerConfig } from './scheduler-config.ts'
import { createDdim } from './solvers/ddim.ts'
import { createMultistepDpmSolver, karrasPath, linspacePath } from './solvers/dpm-solver.ts'
import { createEuler } from './solvers/euler.ts'
import { createLcm } from './solvers/lcm.ts'
import { SolverError } from './solvers/solver.ts'
import type { Solver } from './solvers/solver.ts'

export { SolverError } from './solvers/solver.ts'
export type { Solver, SolverHistory } from './solvers/solver.ts'

export const schedulerNames = ['dpm++_2m', 'dpm++_2m_karras', 'ddim', 'euler', 'lcm'] as const
export type SchedulerName = (typeof schedulerNames)[number]

type Constructor = (schedule: NoiseSchedule, steps: number, config: SchedulerConfig) => Solver

const constructors: Readonly<Record<SchedulerName, Constructor>> = {
  'dpm++_2m': (schedule, steps) => createMultistepDpmSolver(linspacePath(schedule, steps)),
  'dpm++_2m_karras': (schedule, steps) => createMultistepDpmSolver(karrasPath(schedule, steps)),
  ddim: createDdim,
  euler: createEuler,
  lcm: createLcm,
}

/**
 * @param config the checkpoint's; its betas hold for every solver, the rest only for the solver that it names
 * @param steps how often the model is asked
 * @throws {SolverError} when the solver cannot take that many steps on this schedule
 */
export function createSolver(name: SchedulerName, config: SchedulerConfig, steps: number): Solver {
  if (!Number.isSafeInteger(steps) || steps < 1 || steps >= config.trainTimesteps) {
    throw new SolverError(
      `steps: expected a whole number from 1 to ${config.trainTimesteps - 1}, got ${steps}`,
    )
  }
  return constructors[name](createNoiseSchedule(config), steps, config)
}
