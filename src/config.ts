/** Environment → one frozen Config. The table below is the only place that knows a setting's name, default and form. */
import { isIP } from 'node:net'
import { resolve } from 'node:path'
import { parseAllowed } from './outbound/addresses.ts'

interface Setting<T> {
  readonly variable: `ATELIER_${string}`
  readonly description: string
  readonly fallback: string
  /** What a valid value looks like, as shown to the user. */
  readonly expected: string
  /** Never told, not even where it is not valid. */
  readonly isSecret?: boolean
  /** @returns the value, or undefined when the text is not valid */
  readonly parse: (text: string) => T | undefined
}

const setting = <T>(definition: Setting<T>): Setting<T> => definition

const integer = (minimum: number, maximum: number) => ({
  expected: `a whole number from ${minimum} to ${maximum}`,
  parse: (text: string) => {
    const value = Number(text)
    return /^\d+$/.test(text) && value >= minimum && value <= maximum ? value : undefined
  },
})

const decimal = (minimum: number, maximum: number) => ({
  expected: `a number from ${minimum} to ${maximum}`,
  parse: (text: string) => {
    const value = Number(text)
    return /^\d+(?:\.\d+)?$/.test(text) && value >= minimum && value <= maximum ? value : undefined
  },
})

const oneOf = <const T extends string>(...names: readonly T[]) => ({
  expected: `one of ${names.join(', ')}`,
  parse: (text: string) => names.find((name) => name === text),
})

const list = (expected: string, valid: (item: string) => boolean) => ({
  expected,
  parse: (text: string) => {
    const items = text
      .split(',')
      .map((item) => item.trim())
      .filter((item) => item !== '')
    return items.every(valid) ? items : undefined
  },
})

export type BlobSetting =
  { readonly kind: 'directory' } | { readonly kind: 's3'; readonly bucket: string; readonly prefix: string }

function parseBlobs(text: string): BlobSetting | undefined {
  if (text === '') return { kind: 'directory' }
  const { bucket, prefix = '' } =
    /^s3:\/\/(?<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/(?<prefix>[\w.-]+(?:\/[\w.-]+)*)?\/?)?$/.exec(
      text,
    )?.groups ?? {}
  return bucket === undefined ? undefined : { kind: 's3', bucket, prefix }
}

/** Seconds, or Infinity for nothing. */
function parseAge(text: string): number | undefined {
  if (text === '') return Infinity
  const { amount, unit } = /^(?<amount>[1-9]\d{0,5})(?<unit>[smhd])$/.exec(text)?.groups ?? {}
  return unit === undefined
    ? undefined
    : Number(amount) * { s: 1, m: 60, h: 3600, d: 86_400 }[unit as 's' | 'm' | 'h' | 'd']
}

export interface DeviceSetting {
  /** As it was written: the device's name in logs and receipts. */
  readonly name: string
  readonly provider: 'cpu' | 'cuda' | 'webgpu'
  readonly index?: number
  readonly cores?: readonly [number, number]
}

function parseDevices(text: string): readonly DeviceSetting[] | undefined {
  const names = text.split(',').map((name) => name.trim())
  const devices = names.map(parseDevice)
  const known = devices.filter((device) => device !== undefined)
  return known.length === names.length && new Set(names).size === names.length ? known : undefined
}

function parseDevice(name: string): DeviceSetting | undefined {
  const [, first, last] = /^cpu:(\d{1,4})-(\d{1,4})$/.exec(name) ?? []
  if (first && last)
    return Number(first) <= Number(last)
      ? { name, provider: 'cpu', cores: [Number(first), Number(last)] }
      : undefined
  const index = /^cuda:(\d{1,2})$/.exec(name)?.[1]
  if (index) return { name, provider: 'cuda', index: Number(index) }
  const provider = (['cpu', 'cuda', 'webgpu'] as const).find((known) => known === name)
  return provider && { name, provider }
}

/** Names as proxy-addr has them. */
const namedRanges = ['loopback', 'linklocal', 'uniquelocal']

function isRange(text: string): boolean {
  if (namedRanges.includes(text)) return true
  const [, address = '', length] = /^([0-9a-fA-F.:]+)(?:\/(\d{1,3}))?$/.exec(text) ?? []
  const version = isIP(address)
  return version > 0 && (length === undefined || Number(length) <= (version === 4 ? 32 : 128))
}

const isOrigin = (text: string): boolean =>
  text === '*' || (/^https?:/.test(text) && URL.parse(text)?.origin === text)

const settings = {
  host: setting({
    variable: 'ATELIER_HOST',
    description: 'address to listen on',
    fallback: '127.0.0.1',
    expected: 'an IP address or host name',
    parse: (text) => (/^[\w.:-]+$/.test(text) ? text : undefined),
  }),
  port: setting({
    variable: 'ATELIER_PORT',
    description: 'port to listen on; 0 takes a free one',
    fallback: '8080',
    ...integer(0, 65535),
  }),
  publicUrl: setting({
    variable: 'ATELIER_PUBLIC_URL',
    description:
      'where clients reach the service, for links to pictures; empty means the address it listens on',
    fallback: '',
    expected: 'an http or https URL without a query',
    parse: (text) => {
      if (text === '') return ''
      const url = URL.parse(text)
      return url && /^https?:$/.test(url.protocol) && url.search === '' ? text.replace(/\/+$/, '') : undefined
    },
  }),
  trustedProxies: setting({
    variable: 'ATELIER_TRUST_PROXY',
    description:
      'proxies in front of the service, whose X-Forwarded headers are believed, separated by commas',
    fallback: '',
    ...list('addresses, ranges such as 10.0.0.0/8, loopback, linklocal or uniquelocal', isRange),
  }),
  corsOrigins: setting({
    variable: 'ATELIER_CORS_ORIGINS',
    description: 'origins whose web pages may call the service, with a key, separated by commas; * means any',
    fallback: '',
    ...list('origins such as https://example.com separated by commas', isOrigin),
  }),
  requestsPerMinute: setting({
    variable: 'ATELIER_REQUESTS_PER_MINUTE',
    description: 'requests of one key in a minute, where the key has no limit of its own; 0 is no limit',
    fallback: '600',
    ...integer(0, 1_000_000_000),
  }),
  refusalsPerMinute: setting({
    variable: 'ATELIER_REFUSALS_PER_MINUTE',
    description: 'requests without a valid key from one address in a minute; 0 is no limit',
    fallback: '60',
    ...integer(0, 1_000_000_000),
  }),
  maxInFlight: setting({
    variable: 'ATELIER_MAX_IN_FLIGHT',
    description:
      'generations of one key that have not ended, where the key has no limit of its own; 0 is no limit',
    fallback: '100',
    ...integer(0, 1_000_000_000),
  }),
  imagesPerMonth: setting({
    variable: 'ATELIER_IMAGES_PER_MONTH',
    description:
      'pictures that one key may ask for in a calendar month, where the key has no limit of its own; 0 is no limit',
    fallback: '0',
    ...integer(0, 1_000_000_000),
  }),
  dataDir: setting({
    variable: 'ATELIER_DATA_DIR',
    description: 'everything the service writes: database, pictures, caches',
    fallback: 'data',
    expected: 'a folder',
    parse: (text) => (text === '' ? undefined : resolve(text)),
  }),
  blobs: setting({
    variable: 'ATELIER_BLOBS',
    description: 'where pictures are kept; empty means a folder under ATELIER_DATA_DIR',
    fallback: '',
    expected: 's3://BUCKET or s3://BUCKET/PREFIX, or nothing',
    parse: parseBlobs,
  }),
  s3Endpoint: setting({
    variable: 'ATELIER_S3_ENDPOINT',
    description: "address of an S3-compatible storage; empty means Amazon's",
    fallback: '',
    expected: 'an http or https URL, or nothing',
    parse: (text) => {
      const protocol = URL.parse(text)?.protocol
      return text === '' || protocol === 'http:' || protocol === 'https:' ? text : undefined
    },
  }),
  s3Region: setting({
    variable: 'ATELIER_S3_REGION',
    description: 'region of the bucket',
    fallback: 'us-east-1',
    expected: 'a region',
    parse: (text) => (/^[\w-]+$/.test(text) ? text : undefined),
  }),
  s3PathStyle: setting({
    variable: 'ATELIER_S3_PATH_STYLE',
    description:
      'whether the bucket is named in the path of an address rather than in its host; auto does so where there is an endpoint',
    fallback: 'auto',
    ...oneOf('auto', 'true', 'false'),
  }),
  s3Presign: setting({
    variable: 'ATELIER_S3_PRESIGN',
    description: 'whether clients can reach the storage, so that links to pictures lead there',
    fallback: 'false',
    ...oneOf('true', 'false'),
  }),
  urlExpirySeconds: setting({
    variable: 'ATELIER_URL_EXPIRY',
    description: 'how long a link to a picture is good for, in seconds',
    fallback: '3600',
    ...integer(1, 604_800),
  }),
  retentionSeconds: setting({
    variable: 'ATELIER_RETENTION',
    description:
      'after what time since its end a generation is erased, with its prompt and its pictures; empty means never',
    fallback: '',
    expected: 'a number with s, m, h or d (seconds to days), or nothing',
    parse: parseAge,
  }),
  databaseUrl: setting({
    variable: 'ATELIER_DATABASE_URL',
    description:
      'PostgreSQL server (15 or later) to keep rows and queue in, which many processes may share; empty means a database of its own in the data folder',
    fallback: '',
    expected: 'postgres://USER:PASSWORD@HOST:PORT/DATABASE, or nothing',
    isSecret: true,
    parse: (text) => {
      if (text === '') return ''
      return /^postgres(?:ql)?:$/.test(URL.parse(text)?.protocol ?? '') ? text : undefined
    },
  }),
  models: setting({
    variable: 'ATELIER_MODEL',
    description:
      'checkpoints to serve, separated by commas, the first by default: folders in the diffusers layout, names under models/, or folders of such folders',
    fallback: 'emoji',
    ...list('folders or names separated by commas', () => true),
  }),
  modelAliases: setting({
    variable: 'ATELIER_MODEL_ALIASES',
    description: 'model names of other services that mean our model here, separated by commas',
    fallback: 'gpt-image-1,gpt-image-1-mini,gpt-image-1.5,dall-e-2,dall-e-3',
    ...list('names separated by commas', (name) => /^[\w.:/-]{1,128}$/.test(name)),
  }),
  devices: setting({
    variable: 'ATELIER_DEVICES',
    description: 'devices to compute on, one process each, separated by commas',
    fallback: 'cpu',
    expected: 'cpu, cpu:FIRST-LAST (cores), cuda, cuda:N, webgpu, each once',
    parse: parseDevices,
  }),
  precision: setting({
    variable: 'ATELIER_PRECISION',
    description: 'what models compute in; auto is float16 on cuda and float32 elsewhere',
    fallback: 'auto',
    ...oneOf('auto', 'float32', 'float16'),
  }),
  memoryLimitMib: setting({
    variable: 'ATELIER_MEMORY_LIMIT_MIB',
    description: "memory of one device's process, in MiB; 0 is no limit",
    fallback: '0',
    ...integer(0, 16_777_216),
  }),
  maxWaitSeconds: setting({
    variable: 'ATELIER_MAX_WAIT',
    description: 'expected seconds in the queue beyond which new requests are answered with 429',
    fallback: '600',
    ...integer(1, 604_800),
  }),
  maxSide: setting({
    variable: 'ATELIER_MAX_SIDE',
    description: 'largest width or height of a picture in pixels',
    fallback: '2048',
    ...integer(64, 8192),
  }),
  maxTrainMicroStepMs: setting({
    variable: 'ATELIER_MAX_TRAIN_MICRO_STEP_MS',
    description: 'longest that a request should wait for training that is at work, in milliseconds',
    fallback: '100',
    ...integer(1, 600_000),
  }),
  trainShare: setting({
    variable: 'ATELIER_TRAIN_SHARE',
    description:
      "share of a device's time that a fine-tuning job gets even while requests wait; with 0 they always go first",
    fallback: '0',
    ...decimal(0, 0.9),
  }),
  trainSources: setting({
    variable: 'ATELIER_TRAIN_SOURCES',
    description: 'folder of class-conditional DiTs that a fine-tuning job may begin with; empty means none',
    fallback: '',
    expected: 'a folder, or nothing',
    parse: (text) => (text === '' ? '' : resolve(text)),
  }),
  deviceWatts: setting({
    variable: 'ATELIER_DEVICE_WATTS',
    description: 'power of one device at work, where the machine has no meter that can be read',
    fallback: '100',
    ...decimal(0, 100_000),
  }),
  co2GramsPerKwh: setting({
    variable: 'ATELIER_CO2_G_PER_KWH',
    description:
      'grams of CO₂ for each kWh, for estimates; the world average of 2023 by default (Ember, Global Electricity Review 2024)',
    fallback: '480',
    ...decimal(0, 10_000),
  }),
  costPerDeviceHour: setting({
    variable: 'ATELIER_COST_PER_DEVICE_HOUR',
    description: "price of one device's hour, in whatever estimates of cost are to be in; empty means none",
    fallback: '',
    expected: 'a number, or nothing',
    parse: (text) => (text === '' ? 'none' : decimal(0, 1e9).parse(text)),
  }),
  datasetsRoot: setting({
    variable: 'ATELIER_DATASETS_ROOT',
    description: 'folder of the server below which datasets may be taken from; empty means none may',
    fallback: '',
    expected: 'a folder, or nothing',
    parse: (text) => (text === '' ? '' : resolve(text)),
  }),
  maxDatasetMib: setting({
    variable: 'ATELIER_MAX_DATASET_MIB',
    description: 'largest dataset, packed and unpacked, in MiB',
    fallback: '20480',
    ...integer(1, 16_777_216),
  }),
  outboundAllow: setting({
    variable: 'ATELIER_OUTBOUND_ALLOW',
    description:
      'where webhooks may go beside the public internet: addresses, ranges of them (10.0.0.0/8) and host names, separated by commas',
    fallback: '',
    ...list(
      'addresses, ranges and host names separated by commas',
      (item) => parseAllowed(item) !== undefined,
    ),
  }),
  blockList: setting({
    variable: 'ATELIER_BLOCK_LIST',
    description: 'file of words and phrases, one a line, that no prompt may hold; empty means none',
    fallback: '',
    expected: 'a file, or nothing',
    parse: (text) => (text === '' ? '' : resolve(text)),
  }),
  moderationUrl: setting({
    variable: 'ATELIER_MODERATION_URL',
    description: "server that judges prompts, as OpenAI's /v1/moderations does; empty asks nobody",
    fallback: '',
    expected: 'an http or https URL, or nothing',
    parse: (text) => (text === '' || /^https?:$/.test(URL.parse(text)?.protocol ?? '') ? text : undefined),
  }),
  moderationKey: setting({
    variable: 'ATELIER_MODERATION_KEY',
    description: 'key for that server; empty sends none',
    fallback: '',
    expected: 'visible ASCII characters, or nothing',
    isSecret: true,
    parse: (text) => (/^[\x21-\x7e]*$/.test(text) ? text : undefined),
  }),
  moderationModel: setting({
    variable: 'ATELIER_MODERATION_MODEL',
    description: 'model that it is asked for',
    fallback: 'omni-moderation-latest',
    expected: 'a name',
    parse: (text) => (/^[\w.:/-]{1,128}$/.test(text) ? text : undefined),
  }),
  moderationOf: setting({
    variable: 'ATELIER_MODERATION_OF',
    description:
      'what it judges; everything is prompts before they are accepted and pictures before they are kept',
    fallback: 'prompts',
    ...oneOf('prompts', 'everything'),
  }),
  moderationOnFailure: setting({
    variable: 'ATELIER_MODERATION_ON_FAILURE',
    description: 'what becomes of what nobody judged because it did not answer',
    fallback: 'refuse',
    ...oneOf('refuse', 'allow'),
  }),
  moderationTimeoutSeconds: setting({
    variable: 'ATELIER_MODERATION_TIMEOUT',
    description: 'how long an answer of it is waited for, in seconds',
    fallback: '10',
    ...integer(1, 300),
  }),
  drainDelaySeconds: setting({
    variable: 'ATELIER_DRAIN_DELAY',
    description:
      'how long a process that is told to end goes on serving while it says that it is not ready, in seconds, so that balancers notice first',
    fallback: '0',
    ...integer(0, 3600),
  }),
  drainTimeoutSeconds: setting({
    variable: 'ATELIER_DRAIN_TIMEOUT',
    description:
      'how long after that requests that wait, and pictures that a worker has begun with, may take to end, in seconds',
    fallback: '5',
    ...integer(0, 86_400),
  }),
  logPrompts: setting({
    variable: 'ATELIER_LOG_PROMPTS',
    description: 'whether prompts go into the log; without it nothing that users wrote does',
    fallback: 'false',
    ...oneOf('true', 'false'),
  }),
  logLevel: setting({
    variable: 'ATELIER_LOG_LEVEL',
    description: 'least severe messages to log',
    fallback: 'info',
    ...oneOf('silent', 'fatal', 'error', 'warn', 'info', 'debug', 'trace'),
  }),
}

type Settings = typeof settings
export type Config = { readonly [K in keyof Settings]: Settings[K] extends Setting<infer T> ? T : never }

export class ConfigError extends Error {
  override readonly name = 'ConfigError'
}

/**
 * @param environment variables by name; those that start with ATELIER_ must be known
 * @throws {ConfigError} one line that names the variable, what was expected and what came
 */
export function readConfig(environment: Readonly<Record<string, string | undefined>>): Config {
  const known = new Set<string>(Object.values(settings).map(({ variable }) => variable))
  for (const name of Object.keys(environment)) {
    if (name.startsWith('ATELIER_') && !known.has(name)) {
      throw new ConfigError(`${name}: expected one of ${[...known].join(', ')}; there is no such setting`)
    }
  }
  const entries = Object.entries(settings).map(([key, { variable, fallback, expected, isSecret, parse }]) => {
    const text = environment[variable] ?? fallback
    const value = parse(text)
    if (value === undefined) {
      const came = isSecret ? 'something else, which is not told here' : JSON.stringify(text)
      throw new ConfigError(`${variable}: expected ${expected}, got ${came}`)
    }
    return [key, value]
  })
  return Object.freeze(Object.fromEntries(entries)) as Config
}

/** One line per setting, for `--help` and the README's table. */
export function describeSettings(): {
  variable: string
  fallback: string
  description: string
  expected: string
}[] {
  return Object.values(settings).map(({ variable, fallback, description, expected }) => ({
    variable,
    fallback,
    description,
    expected,
  }))
}
