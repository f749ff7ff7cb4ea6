/** What energy and device time come to: grams of CO₂ and money, by configured factors. */

/** `rapl` and `nvidia-smi` are measured. */
export const energySources = ['rapl', 'nvidia-smi', 'configured'] as const
export type EnergySource = (typeof energySources)[number]

export interface EnergyUse {
  readonly joules: number
  readonly source: EnergySource
}

export interface Rates {
  /** Of one device at work. */
  readonly watts: number
  readonly gramsPerKwh: number
  /** Undefined: nothing is said of money. */
  readonly costPerDeviceHour: number | undefined
}

export interface Footprint {
  readonly deviceHours: number
  readonly kwh: number
  readonly co2Grams: number
  readonly cost: number | undefined
}

const joulesPerKwh = 3.6e6
const msPerHour = 3.6e6

export function footprint(
  { deviceMs, joules }: { readonly deviceMs: number; readonly joules: number },
  { gramsPerKwh, costPerDeviceHour }: Rates,
): Footprint {
  const deviceHours = deviceMs / msPerHour
  return {
    deviceHours,
    kwh: joules / joulesPerKwh,
    co2Grams: co2Grams(joules, gramsPerKwh),
    cost: costPerDeviceHour === undefined ? undefined : deviceHours * costPerDeviceHour,
  }
}

export const co2Grams = (joules: number, gramsPerKwh: number): number => (joules / joulesPerKwh) * gramsPerKwh

/** @returns what was used together; measured where all of it was */
export function sumEnergy(uses: readonly EnergyUse[]): EnergyUse | undefined {
  const [first] = uses
  if (!first) return undefined
  const joules = uses.reduce((sum, use) => sum + use.joules, 0)
  return { joules, source: uses.find(({ source }) => source === 'configured')?.source ?? first.source }
}
