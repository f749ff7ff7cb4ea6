import fc from 'fast-check'
import { expect, test } from 'vitest'
import { toNoisePrediction } from '../../src/diffusion/prediction.ts'
import { parseSchedulerConfig } from '../../src/diffusion/scheduler-config.ts'
import { createSolver, schedulerNames } from '../../src/diffusion/solvers.ts'

const config = parseSchedulerConfig({
  _class_name: 'DPMSolverMultistepScheduler',
  prediction_type: 'v_prediction',
})

test('velocities of a picture and its noise give the noise, at every step of every solver', () => {
  const number = fc.double({ min: -3, max: 3, noNaN: true })
  fc.assert(
    fc.property(
      fc.constantFrom(...schedulerNames),
      fc.integer({ min: 1, max: 30 }),
      fc.array(fc.tuple(number, number), { minLength: 1, maxLength: 4 }),
      (name, steps, values) => {
        const solver = createSolver(name, config, steps)
        for (let step = 0; step < steps; step++) {
          const alpha = 1 / Math.sqrt(solver.sigmas[step]! ** 2 + 1)
          const beta = Math.sqrt(1 - alpha ** 2)
          const input = Float32Array.from(values, ([clean, noise]) => alpha * clean + beta * noise)
          const prediction = Float32Array.from(values, ([clean, noise]) => alpha * noise - beta * clean)
          toNoisePrediction('v_prediction', solver, step, input, prediction)
          for (const [i, [, noise]] of values.entries()) expect(prediction[i]).toBeCloseTo(noise, 4)
        }
      },
    ),
  )
})

test.each(schedulerNames)('%s comes to the picture that the velocities are of', (name) => {
  const steps = 20
  const solver = createSolver(name, config, steps)
  const clean = Float32Array.from({ length: 8 }, (_, i) => Math.sin(i))
  const latents = Float32Array.from(clean, (_, i) => Math.cos(3 * i) * solver.initialNoiseScale)
  const history = solver.createHistory(clean.length)
  const input = new Float32Array(clean.length)
  for (let step = 0; step < steps; step++) {
    solver.scaleModelInput(latents, step, input)
    const alpha = 1 / Math.sqrt(solver.sigmas[step]! ** 2 + 1)
    const beta = Math.sqrt(1 - alpha ** 2)
    // v = (α x − x₀) / β: of whatever noise there is.
    const prediction = input.map((x, i) => (alpha * x - clean[i]!) / beta)
    toNoisePrediction(config.predictionType, solver, step, input, prediction)
    if (solver.drawsNoise(step)) history.noise.fill(0.5)
    solver.step(step, latents, prediction, history)
  }
  const furthest = Math.max(...latents.map((value, i) => Math.abs(value - clean[i]!)))
  // DDIM, Euler and LCM leave the first timestep's noise, or their boundary condition's share of it.
  expect(furthest).toBeLessThan(name.startsWith('dpm++') ? 1e-4 : 0.05)
})

test('noise predictions are left as they are', () => {
  const prediction = Float32Array.of(1, 2)
  const solver = createSolver('ddim', config, 4)
  toNoisePrediction('epsilon', solver, 0, Float32Array.of(5, 5), prediction)
  expect([...prediction]).toEqual([1, 2])
})
