import { expect, test } from 'vitest'
import { float32, Session, type Tensor } from '../../src/engine/session.ts'
import { gradients, lossSeed } from '../../src/graph/gradient/gradients.ts'
import { graph, input } from '../../src/graph/ir.ts'
import { addNoise, diffusionProcess, type DiffusionProcess } from '../../src/training/diffusion-process.ts'
import { noiseLoss, type NoiseLossOptions } from '../../src/training/losses.ts'

const settings = {
  predictionType: 'epsilon',
  trainTimesteps: 1000,
  betaSchedule: 'linear',
  betaStart: 1e-4,
  betaEnd: 0.02,
} as const
const process = diffusionProcess(settings)
const velocityProcess = diffusionProcess({ ...settings, predictionType: 'v_prediction' })

const [rows, tokens, numbers] = [3, 2, 4]
const timesteps = [0, 300, 999]
const wave = (length: number, pace: number): Float32Array =>
  Float32Array.from({ length }, (_, i) => Math.sin(1 + i * pace))
const clean = wave(rows * tokens * numbers, 0.7)
const noise = wave(rows * tokens * numbers, 1.3)
const output = wave(rows * tokens * 2 * numbers, 0.9).map((value) => 0.8 * value + 0.1)

/** Loss, terms and the loss's gradient of the output. */
async function evaluate(
  options: NoiseLossOptions,
  { of = process, outputs: given = output }: { of?: DiffusionProcess; outputs?: Float32Array } = {},
): Promise<Record<string, Float32Array>> {
  const whole = (name: string, width: number) => input(name, 'float32', [rows, tokens, width])
  const inputs = [
    whole('output', 2 * numbers),
    whole('noise', numbers),
    whole('clean', numbers),
    whole('noised', numbers),
  ] as const
  const timestep = input('timestep', 'float32', [rows])
  const [predicted, itsNoise, itsClean, noised] = inputs
  const { loss, mse, bound, detached } = noiseLoss(
    { output: predicted, noise: itsNoise, clean: itsClean, noised, timestep },
    of,
    options,
  )
  const [gradient] = gradients([lossSeed(loss)], [predicted], { detached })
  const outputs = { loss, mse, gradient: gradient!, ...(bound ? { bound } : {}) }
  const session = await Session.open(graph('loss', [...inputs, timestep], outputs), 'inputs', {
    provider: 'cpu',
    threads: 1,
  })
  const noisedData = new Float32Array(clean.length)
  const size = tokens * numbers
  for (const [row, t] of timesteps.entries()) {
    const part = (data: Float32Array): Float32Array => data.subarray(row * size, (row + 1) * size)
    addNoise(process, { clean: part(clean), noise: part(noise), timestep: t }, part(noisedData))
  }
  const tensor = (data: Float32Array): Tensor => float32(data, rows, tokens, data.length / rows / tokens)
  // What a loss does not depend on is still among the inputs.
  const results = await session.run({
    output: tensor(given),
    noise: tensor(noise),
    clean: tensor(clean),
    noised: tensor(noisedData),
    timestep: float32(Float32Array.from(timesteps), rows),
  })
  await session.close()
  return Object.fromEntries(Object.entries(results).map(([name, { data }]) => [name, data as Float32Array]))
}

/** Mean squared error of each row, in double precision. */
const squaredErrors = timesteps.map((_, row) => {
  let sum = 0
  for (let token = 0; token < tokens; token++) {
    for (let i = 0; i < numbers; i++) {
      const predicted = output[(row * tokens + token) * 2 * numbers + i]!
      sum += (predicted - noise[(row * tokens + token) * numbers + i]!) ** 2
    }
  }
  return sum / (tokens * numbers)
})

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length

test('the plain loss is the squared error of the noise, and leaves the variance alone', async () => {
  const { loss, mse, bound, gradient } = await evaluate({ kind: 'mse' })
  for (const [row, expected] of squaredErrors.entries()) expect(mse![row]).toBeCloseTo(expected, 5)
  expect(loss![0]).toBeCloseTo(mean(squaredErrors), 5)
  expect(bound).toBeUndefined()
  for (const [i, value] of gradient!.entries()) expect(value === 0).toBe(i % (2 * numbers) >= numbers)
})

test('min-SNR weighting counts rows with much signal less', async () => {
  let product = 1
  const snr = Array.from({ length: 1000 }, (_, t) => {
    product *= 1 - (1e-4 + ((0.02 - 1e-4) * t) / 999)
    return product / (1 - product)
  })
  const weights = timesteps.map((t) => Math.min(snr[t]!, 5) / snr[t]!)
  expect(weights[0]).toBeLessThan(1e-3)
  expect(weights[2]).toBe(1)
  const { loss, mse } = await evaluate({ kind: 'mse', minSnr: 5 })
  expect(loss![0]).toBeCloseTo(mean(squaredErrors.map((error, row) => error * weights[row]!)), 5)
  expect(mse![1]).toBeCloseTo(squaredErrors[1]!, 5)
})

test('the bound trains the variance and not the mean', async () => {
  const plain = await evaluate({ kind: 'mse' })
  const bounded = await evaluate({ kind: 'variational' })
  expect(bounded['bound']!.every((value) => Number.isFinite(value) && value > 0)).toBe(true)
  expect(bounded['loss']![0]).toBeCloseTo(plain['loss']![0]! + mean([...bounded['bound']!]), 5)
  const ofMean = (_: number, i: number): boolean => i % (2 * numbers) < numbers
  const unbounded = plain['gradient']!.filter(ofMean)
  for (const [i, value] of bounded['gradient']!.filter(ofMean).entries())
    expect(value).toBeCloseTo(unbounded[i]!, 6)
  expect(bounded['gradient']!.some((value, i) => i % (2 * numbers) >= numbers && value !== 0)).toBe(true)
})

test('the posterior of the process is that of Ho et al., equations 6 and 7', () => {
  const t = 250
  const beta = 1e-4 + ((0.02 - 1e-4) * t) / 999
  const [now, before] = [process.signal[t]! ** 2, process.signal[t - 1]! ** 2]
  expect(process.signal[t]! ** 2 + process.noise[t]! ** 2).toBeCloseTo(1, 12)
  expect(process.meanOfClean[t]).toBeCloseTo((Math.sqrt(before) * beta) / (1 - now), 12)
  expect(process.meanOfNoised[t]).toBeCloseTo((Math.sqrt(1 - beta) * (1 - before)) / (1 - now), 12)
  expect(Math.exp(process.leastLogVariance[t]!)).toBeCloseTo(((1 - before) / (1 - now)) * beta, 12)
  expect(process.leastLogVariance[0]).toBe(process.leastLogVariance[1])
  expect(Math.exp(process.mostLogVariance[t]!)).toBeCloseTo(beta, 12)
})

/** The velocity that says of the noised latents that their noise is `its`, beside an interpolation of the variance. */
function velocities(its: Float32Array): Float32Array {
  const values = output.slice()
  for (let i = 0; i < its.length; i++) {
    const t = timesteps[Math.floor(i / (tokens * numbers))]!
    const [alpha, beta] = [process.signal[t]!, process.noise[t]!]
    const noised = alpha * clean[i]! + beta * noise[i]!
    values[Math.floor(i / numbers) * 2 * numbers + (i % numbers)] = (its[i]! - beta * noised) / alpha
  }
  return values
}

test('of a velocity the squared error is the velocity’s, and weighed by min-SNR it is that of the clean latents', async () => {
  const right = await evaluate({ kind: 'mse' }, { of: velocityProcess, outputs: velocities(noise) })
  expect(right.loss![0]).toBeLessThan(1e-12)
  const { mse } = await evaluate({ kind: 'mse' }, { of: velocityProcess })
  const apart = velocities(noise)
  for (const [row] of timesteps.entries()) {
    let sum = 0
    for (let i = row * tokens * numbers; i < (row + 1) * tokens * numbers; i++) {
      const at = Math.floor(i / numbers) * 2 * numbers + (i % numbers)
      sum += (output[at]! - apart[at]!) ** 2
    }
    expect(mse![row]).toBeCloseTo(sum / (tokens * numbers), 5)
  }
  // x₀ = α x − β v: an error of v is β times that of x₀, so that min(SNR, γ) times the latter is the weighed one.
  const weighed = await evaluate({ kind: 'mse', minSnr: 5 }, { of: velocityProcess })
  const expected = timesteps.map((t, row) => {
    const { signalToNoise: snr, noise: beta } = process
    return Math.min(snr[t]!, 5) * beta[t]! ** 2 * mse![row]!
  })
  expect(weighed.loss![0]).toBeCloseTo(mean(expected), 5)
})

test('the bound is the same whether the noise or the velocity is predicted', async () => {
  const offNoise = noise.map((value, i) => value + 0.1 * Math.sin(i))
  const asNoise = output.slice()
  for (let i = 0; i < offNoise.length; i++)
    asNoise[Math.floor(i / numbers) * 2 * numbers + (i % numbers)] = offNoise[i]!
  const [told, derived] = [
    await evaluate({ kind: 'variational' }, { outputs: asNoise }),
    await evaluate({ kind: 'variational' }, { of: velocityProcess, outputs: velocities(offNoise) }),
  ]
  for (const [row] of timesteps.entries()) expect(derived.bound![row]! / told.bound![row]!).toBeCloseTo(1, 2)
})
