import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { createNoiseSchedule } from '../../src/diffusion/noise-schedule.ts'
import { parseSchedulerConfig } from '../../src/diffusion/scheduler-config.ts'
import { createSolver, schedulerNames, SolverError } from '../../src/diffusion/solvers.ts'
import type { SchedulerName } from '../../src/diffusion/solvers.ts'
import { difference, float32, readFixture } from '../safetensors.ts'

const classNames = {
  dpmpp_2m_karras: ['dpm++_2m_karras', 'DPMSolverMultistepScheduler'],
  ddim: ['ddim', 'DDIMScheduler'],
  euler: ['euler', 'EulerDiscreteScheduler'],
  lcm: ['lcm', 'LCMScheduler'],
} as const satisfies Record<string, readonly [SchedulerName, string]>

const fixtures = new URL('../fixtures/golden/', import.meta.url)
/** JSON as Python writes it: -Infinity is a number there. */
const readPythonJson = (path: string) =>
  JSON.parse(readFileSync(new URL(path, fixtures), 'utf8').replaceAll('-Infinity', 'null')) as Record<
    string,
    object
  >

const paperConfig = parseSchedulerConfig(
  readPythonJson('tiny-512/checkpoint/scheduler/scheduler_config.json'),
)

const slices = (tensor: Float32Array, steps: number) => {
  const length = tensor.length / steps
  return Array.from({ length: steps }, (_, i) => tensor.subarray(i * length, (i + 1) * length))
}

describe("agrees with diffusers' schedulers at every step", () => {
  const golden = readFixture('golden/solvers.safetensors')
  const configs = readPythonJson('solvers.json')
  const cases = [...golden.keys()].filter((key) => key.endsWith('.eps')).map((key) => key.split('.'))
  test.each(cases)('%s with %s steps', (goldenName, stepsText) => {
    const [name, className] = classNames[goldenName as keyof typeof classNames]
    const steps = Number(stepsText)
    const solver = createSolver(
      name,
      parseSchedulerConfig({ ...configs[goldenName], _class_name: className }),
      steps,
    )
    const reference = (key: string) => float32(golden, `${goldenName}.${steps}.${key}`)

    expect(solver.timesteps).toEqual(reference('timesteps'))
    const latents = reference('start').slice()
    const fed = new Float32Array(latents.length)
    const history = solver.createHistory(latents.length)
    const inputs = slices(reference('model_input'), steps)
    const expected = slices(reference('latents'), steps)
    const noises = name === 'lcm' ? slices(reference('noise'), steps - 1) : []
    slices(reference('eps'), steps).forEach((eps, step) => {
      solver.scaleModelInput(latents, step, fed)
      expect(difference(fed, inputs[step]!).relative).toBeLessThan(1e-5)
      expect(solver.drawsNoise(step)).toBe(name === 'lcm' && step < steps - 1)
      if (solver.drawsNoise(step)) history.noise.set(noises[step]!)
      solver.step(step, latents, eps, history)
      expect(difference(latents, expected[step]!).relative).toBeLessThan(1e-5)
    })
  })
})

describe('DPM-Solver++ (2M) agrees with diffusers', () => {
  const cases = ['tiny-512', 'tiny-1024-ms'].flatMap((folder) =>
    [1, 4, 20, 50].map((steps) => [folder, steps] as const),
  )
  test.each(cases)('%s with %i steps', (folder, steps) => {
    const golden = readFixture(`golden/${folder}/golden.safetensors`)
    const config = parseSchedulerConfig(
      readPythonJson(`${folder}/checkpoint/scheduler/scheduler_config.json`),
    )
    const solver = createSolver(config.scheduler, config, steps)
    expect([...solver.timesteps]).toEqual([...(golden.get(`solver${steps}.timesteps`)!.data as Int32Array)])
    const latents = float32(golden, `solver${steps}.start`)
    const history = solver.createHistory(latents.length)
    slices(float32(golden, `solver${steps}.eps`), steps).forEach((eps, step) => {
      solver.step(step, latents, eps, history)
    })
    expect(difference(latents, float32(golden, `solver${steps}.end`)).relative).toBeLessThan(1e-5)
  })
})

describe.each(schedulerNames)('%s', (name) => {
  test('takes every number of steps that it can be asked for', () => {
    const most = name === 'lcm' ? 50 : 100
    for (let steps = 1; steps <= most; steps++) {
      const solver = createSolver(name, paperConfig, steps)
      expect(solver.timesteps).toHaveLength(steps)
      const latents = new Float32Array([1, -2, 0.5])
      const history = solver.createHistory(latents.length)
      for (let step = 0; step < steps; step++) {
        history.noise.fill(0.25)
        solver.step(step, latents, new Float32Array([0.1, 0.2, -0.3]), history)
      }
      expect(latents.every(Number.isFinite)).toBe(true)
    }
  })

  test('recovers x₀ exactly from noise predictions that are exact', () => {
    // xₜ = √ᾱₜ x₀ + √(1 − ᾱₜ) ε with one ε throughout: every solver must walk that line.
    const x0 = [0.7, -1.3, 2.1]
    const epsilon = Float32Array.of(-0.4, 1.1, 0.2)
    const solver = createSolver(name, paperConfig, 8)
    const isEuler = name === 'euler'
    const { alphasCumprod } = createNoiseSchedule(paperConfig)
    const alpha = alphasCumprod[solver.timesteps[0]!]!
    const start = isEuler
      ? x0.map((x, i) => x + solver.initialNoiseScale * epsilon[i]!)
      : x0.map((x, i) => Math.sqrt(alpha) * x + Math.sqrt(1 - alpha) * epsilon[i]!)
    const latents = Float32Array.from(start)
    const history = solver.createHistory(latents.length)
    history.noise.set(epsilon.subarray(0, history.noise.length))
    for (let step = 0; step < solver.steps; step++) solver.step(step, latents, epsilon, history)
    // DDIM's last step ends at ᾱ₀ rather than at 1; LCM's boundary condition mixes in a little of the sample.
    expect(difference(latents, x0).absolute).toBeLessThan(name === 'ddim' || name === 'lcm' ? 2e-2 : 1e-4)
  })

  test('a request that runs again on its old history gives the same latents', () => {
    const solver = createSolver(name, paperConfig, 3)
    const history = solver.createHistory(2)
    history.noise.fill(0.5)
    const run = () => {
      const latents = Float32Array.of(1.5, -0.5)
      for (let step = 0; step < 3; step++) solver.step(step, latents, Float32Array.of(0.3, -0.9), history)
      return latents
    }
    expect(run()).toEqual(run())
  })
})

test.each([0, -1, 1.5, Number.NaN, 1000])('%d steps are refused', (steps) => {
  expect(() => createSolver('dpm++_2m', paperConfig, steps)).toThrow(
    /^steps: expected a whole number from 1 to 999/,
  )
})

test('lcm refuses more steps than its teacher took', () => {
  expect(() => createSolver('lcm', paperConfig, 51)).toThrow(SolverError)
  expect(() => createSolver('lcm', paperConfig, 51)).toThrow('steps: lcm takes at most 50 steps, got 51')
})

test('without a karras flag a checkpoint keeps its own solver', () => {
  expect(paperConfig.scheduler).toBe('dpm++_2m')
  expect(schedulerNames).toContain(paperConfig.scheduler)
})
