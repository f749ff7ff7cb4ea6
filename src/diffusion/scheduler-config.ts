/** A checkpoint's scheduler_config.json → a typed value, or an error for whatever our solvers would not reproduce. */
import type { SchedulerName } from './solvers.ts'

/**
 * What the model's output is, by diffusers' names: the noise ε, or Salimans & Ho's velocity √ᾱₜ ε − √(1 − ᾱₜ) x₀ (2022, arXiv 2202.00512).
 */
export type PredictionType = 'epsilon' | 'v_prediction'

export interface SchedulerConfig {
  /** The solver that the checkpoint asks for. */
  readonly scheduler: SchedulerName
  readonly predictionType: PredictionType
  readonly trainTimesteps: number
  readonly betaSchedule: 'linear' | 'scaled_linear'
  readonly betaStart: number
  readonly betaEnd: number
  /** DDIM: whether the step after the last goes to ᾱ = 1 rather than to ᾱ₀. */
  readonly setAlphaToOne: boolean
  /** DDIM: added to every timestep. */
  readonly stepsOffset: number
  /** LCM: how many steps the teacher's solver had; its timesteps are the ones to choose from. */
  readonly originalInferenceSteps: number
  /** LCM: stretches the boundary condition's timestep. */
  readonly timestepScaling: number
}

/** The checkpoint asks for a schedule that we do not reproduce. */
export class SchedulerConfigError extends Error {
  override readonly name = 'SchedulerConfigError'
}

/** What a key may be, and what diffusers takes it to be when it is absent. */
interface Constraint {
  readonly absent: unknown
  readonly allowed: readonly unknown[]
}

const only = (value: unknown): Constraint => ({ absent: value, allowed: [value] })

const common: Readonly<Record<string, Constraint>> = {
  trained_betas: { absent: null, allowed: [null] },
  rescale_betas_zero_snr: only(false),
  prediction_type: { absent: 'epsilon', allowed: ['epsilon', 'v_prediction'] },
}

const multistep: Readonly<Record<string, Constraint>> = {
  thresholding: only(false),
  solver_order: only(2),
  algorithm_type: only('dpmsolver++'),
  solver_type: only('midpoint'),
  use_lu_lambdas: only(false),
  // With a final sigma of zero the last step is first order, whatever lower_order_final and euler_at_final say.
  final_sigmas_type: only('zero'),
  timestep_spacing: only('linspace'),
  lambda_min_clipped: { absent: null, allowed: [null, -Infinity, '-Infinity'] },
}

/** diffusers' classes that we reproduce; keys that are not listed have no effect on a step. */
const classes: Readonly<Record<string, Readonly<Record<string, Constraint>>>> = {
  DPMSolverMultistepScheduler: multistep,
  DDIMScheduler: {
    thresholding: only(false),
    clip_sample: { absent: true, allowed: [false] },
    timestep_spacing: only('leading'),
  },
  EulerDiscreteScheduler: {
    interpolation_type: only('linear'),
    timestep_spacing: only('linspace'),
    timestep_type: only('discrete'),
    use_karras_sigmas: only(false),
  },
  LCMScheduler: { thresholding: only(false), clip_sample: only(false) },
}

const schedulerOf = (className: string, karras: boolean): SchedulerName => {
  switch (className) {
    case 'DDIMScheduler':
      return 'ddim'
    case 'EulerDiscreteScheduler':
      return 'euler'
    case 'LCMScheduler':
      return 'lcm'
    default:
      return karras ? 'dpm++_2m_karras' : 'dpm++_2m'
  }
}

/**
 * Reads what scheduler_config.json holds; absent keys mean diffusers' defaults for the class that `_class_name` names.
 *
 * @param json the file's content; -Infinity may have been read as such, as null or as text
 * @throws {SchedulerConfigError} naming the key, what was expected and what came
 */
export function parseSchedulerConfig(json: unknown): SchedulerConfig {
  if (typeof json !== 'object' || json === null) throw expectation('scheduler config', 'an object', json)
  const values = new Map(Object.entries(json))
  const className = values.get('_class_name')
  const constraints = typeof className === 'string' ? classes[className] : undefined
  if (typeof className !== 'string' || constraints === undefined) {
    throw expectation('_class_name', `one of ${Object.keys(classes).join(', ')}`, className)
  }
  for (const [key, { absent, allowed }] of Object.entries({ ...common, ...constraints })) {
    const value = values.has(key) ? values.get(key) : absent
    if (!allowed.includes(value)) {
      throw expectation(key, allowed.map(show).join(' or '), value)
    }
  }

  const number = (key: string, absent: number, valid: (value: number) => boolean, expected: string) => {
    const value = values.get(key) ?? absent
    if (typeof value !== 'number' || !valid(value)) throw expectation(key, expected, value)
    return value
  }
  const count = (key: string, absent: number, minimum: number) =>
    number(key, absent, (v) => Number.isSafeInteger(v) && v >= minimum, `a whole number from ${minimum} on`)
  const beta = (key: string, absent: number) =>
    number(key, absent, (v) => v > 0 && v < 1, 'a number between 0 and 1')

  const betaSchedule = values.get('beta_schedule') ?? 'linear'
  if (betaSchedule !== 'linear' && betaSchedule !== 'scaled_linear') {
    throw expectation('beta_schedule', '"linear" or "scaled_linear"', betaSchedule)
  }
  const isDdim = className === 'DDIMScheduler'
  const isLcm = className === 'LCMScheduler'
  return {
    scheduler: schedulerOf(className, values.get('use_karras_sigmas') === true),
    predictionType: values.get('prediction_type') === 'v_prediction' ? 'v_prediction' : 'epsilon',
    trainTimesteps: count('num_train_timesteps', 1000, 2),
    betaSchedule,
    betaStart: beta('beta_start', isLcm ? 0.00085 : 0.0001),
    betaEnd: beta('beta_end', isLcm ? 0.012 : 0.02),
    // These belong to one class each; a checkpoint of another class gets what suits latents.
    setAlphaToOne: isDdim && values.get('set_alpha_to_one') !== false,
    stepsOffset: isDdim ? count('steps_offset', 0, 0) : 0,
    originalInferenceSteps: isLcm ? count('original_inference_steps', 50, 1) : 50,
    timestepScaling: isLcm ? number('timestep_scaling', 10, (v) => v > 0, 'a number above 0') : 10,
  }
}

const show = (value: unknown) =>
  typeof value === 'number' ? String(value) : (JSON.stringify(value) ?? 'nothing')

const expectation = (key: string, expected: string, came: unknown) =>
  new SchedulerConfigError(`${key}: expected ${expected}, got ${show(came)}`)
