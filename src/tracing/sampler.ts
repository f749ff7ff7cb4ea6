/** Which traces are recorded, as OpenTelemetry's variables say it (Environment Variable Specification, General SDK Configuration). */
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  ParentBasedSampler,
  TraceIdRatioBasedSampler,
  type Sampler,
} from '@opentelemetry/sdk-trace'

type Environment = Readonly<Record<string, string | undefined>>

const samplers = {
  always_on: () => new AlwaysOnSampler(),
  always_off: () => new AlwaysOffSampler(),
  traceidratio: (ratio) => new TraceIdRatioBasedSampler(ratio),
  parentbased_always_on: () => new ParentBasedSampler({ root: new AlwaysOnSampler() }),
  parentbased_always_off: () => new ParentBasedSampler({ root: new AlwaysOffSampler() }),
  parentbased_traceidratio: (ratio) => new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(ratio) }),
} as const satisfies Record<string, (ratio: number) => Sampler>

/** @throws for a sampler or a ratio that there is not */
export function samplerOf({
  OTEL_TRACES_SAMPLER: name = '',
  OTEL_TRACES_SAMPLER_ARG: argument = '',
}: Environment): Sampler {
  const known = name === '' ? 'parentbased_always_on' : name
  if (!isKnown(known))
    throw new Error(
      `OTEL_TRACES_SAMPLER: expected one of ${Object.keys(samplers).join(', ')}, got ${JSON.stringify(name)}`,
    )
  const ratio = argument === '' ? 1 : Number(argument)
  if (known.endsWith('traceidratio') && !(ratio >= 0 && ratio <= 1))
    throw new Error(`OTEL_TRACES_SAMPLER_ARG: expected a number from 0 to 1, got ${JSON.stringify(argument)}`)
  return samplers[known](ratio)
}

const isKnown = (name: string): name is keyof typeof samplers => Object.hasOwn(samplers, name)
