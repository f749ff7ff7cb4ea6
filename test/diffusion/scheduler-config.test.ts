import { describe, expect, test } from 'vitest'
import { createNoiseSchedule } from '../../src/diffusion/noise-schedule.ts'
import { parseSchedulerConfig, SchedulerConfigError } from '../../src/diffusion/scheduler-config.ts'

const dpm = { _class_name: 'DPMSolverMultistepScheduler' }

describe('a scheduler config', () => {
  test('has the defaults of the diffusers class that it names', () => {
    expect(parseSchedulerConfig(dpm)).toEqual({
      scheduler: 'dpm++_2m',
      predictionType: 'epsilon',
      trainTimesteps: 1000,
      betaSchedule: 'linear',
      betaStart: 0.0001,
      betaEnd: 0.02,
      setAlphaToOne: false,
      stepsOffset: 0,
      originalInferenceSteps: 50,
      timestepScaling: 10,
    })
    expect(parseSchedulerConfig({ ...dpm, prediction_type: 'v_prediction' }).predictionType).toBe(
      'v_prediction',
    )
    expect(parseSchedulerConfig({ _class_name: 'LCMScheduler' })).toMatchObject({
      betaStart: 0.00085,
      betaEnd: 0.012,
    })
  })

  test.each([
    [{ ...dpm, use_karras_sigmas: true }, 'dpm++_2m_karras'],
    [{ _class_name: 'DDIMScheduler', clip_sample: false }, 'ddim'],
    [{ _class_name: 'EulerDiscreteScheduler' }, 'euler'],
    [{ _class_name: 'LCMScheduler' }, 'lcm'],
  ])('%j asks for %s', (json, name) => {
    expect(parseSchedulerConfig(json).scheduler).toBe(name)
  })

  test.each([
    [
      { ...dpm, prediction_type: 'sample' },
      'prediction_type: expected "epsilon" or "v_prediction", got "sample"',
    ],
    [{ ...dpm, thresholding: true }, 'thresholding: expected false, got true'],
    [{ ...dpm, solver_order: 3 }, 'solver_order: expected 2, got 3'],
    [
      { ...dpm, lambda_min_clipped: -5.1 },
      'lambda_min_clipped: expected null or -Infinity or "-Infinity", got -5.1',
    ],
    [{ ...dpm, beta_schedule: 'squaredcos_cap_v2' }, 'beta_schedule: expected "linear" or "scaled_linear"'],
    [{ ...dpm, beta_end: 'much' }, 'beta_end: expected a number between 0 and 1, got "much"'],
    [{ ...dpm, num_train_timesteps: 0 }, 'num_train_timesteps: expected a whole number from 2 on, got 0'],
    [{ ...dpm, trained_betas: [0.1] }, 'trained_betas: expected null, got [0.1]'],
    [{ _class_name: 'DDIMScheduler' }, 'clip_sample: expected false, got true'],
    [
      { _class_name: 'PNDMScheduler' },
      '_class_name: expected one of DPMSolverMultistepScheduler, DDIMScheduler',
    ],
    [{}, '_class_name: expected one of'],
    [null, 'scheduler config: expected an object, got null'],
  ])('%j is refused by name', (json, message) => {
    expect(() => parseSchedulerConfig(json)).toThrow(SchedulerConfigError)
    expect(() => parseSchedulerConfig(json)).toThrow(message)
  })

  test.each([null, -Infinity, '-Infinity'])('lambda_min_clipped may be %j', (value) => {
    expect(parseSchedulerConfig({ ...dpm, lambda_min_clipped: value }).scheduler).toBe('dpm++_2m')
  })
})

describe('the noise schedule', () => {
  test('of the paper starts at the published betas and leaves 4e-5 of the signal', () => {
    const { betas, alphasCumprod, sigmas } = createNoiseSchedule(parseSchedulerConfig(dpm))
    expect([betas[0], betas[999]]).toEqual([Math.fround(0.0001), Math.fround(0.02)])
    expect(alphasCumprod[0]).toBe(Math.fround(0.9999))
    expect(alphasCumprod[999]).toBeCloseTo(4.0358e-5, 9)
    expect(sigmas[999]).toBeCloseTo(157.407, 3)
    expect(alphasCumprod.every((alpha, t) => t === 0 || alpha < alphasCumprod[t - 1]!)).toBe(true)
  })

  test('scaled_linear is linear in the square root', () => {
    const { betas } = createNoiseSchedule(
      parseSchedulerConfig({ ...dpm, beta_schedule: 'scaled_linear', beta_start: 0.00085, beta_end: 0.012 }),
    )
    expect(betas[0]).toBeCloseTo(0.00085, 8)
    expect(betas[999]).toBeCloseTo(0.012, 8)
    const roots = betas.map(Math.sqrt)
    expect(roots[500]! - roots[499]!).toBeCloseTo((roots[999]! - roots[0]!) / 999, 7)
  })
})
