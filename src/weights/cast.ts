/**
 * Gives a component's tensors in dtypes that an execution provider can use: where they lie when it can use them as they are,
 * and otherwise in a cache file that is written once, by whichever process comes first, and used by all from then on.
 */
import { mkdir, readdir, rm, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { arrayOf, bytesPerElement, isFloat, type Dtype, type FloatDtype } from './dtypes.ts'
import { WeightsError } from './errors.ts'
import { explained, isSystemError, modificationDates } from './files.ts'
import { fingerprint } from './fingerprint.ts'
import { fromFloat32, toFloat32 } from './floats.ts'
import { tryLock } from './lock.ts'
import { isFloatLocation, openSafetensors, readChunks, type TensorLocation } from './safetensors.ts'
import { temporarySuffix, writeSafetensors, type TensorSource } from './safetensors-writer.ts'

/** What a tensor should be: its own dtype, or for a float another float. */
export type DtypePolicy = (name: string, dtype: Dtype) => Dtype

/** The part of a Component that a cast needs. */
export interface CastSource {
  readonly name: string
  readonly tensors: ReadonlyMap<string, TensorLocation>
  readonly fingerprint: string
}

export interface CastOptions {
  /** Called before a cache file is written, which may take minutes. */
  readonly onCast?: (cast: {
    readonly file: string
    readonly tensors: number
    readonly sizeBytes: number
  }) => void
}

export interface Conversion {
  readonly name: string
  readonly from: TensorLocation<FloatDtype>
  readonly to: FloatDtype
}

const chunkBytes = 4 * 2 ** 20
const pollMs = 100
/** A temporary that grows is touched all the time; one of this age belongs to nobody. */
const forgottenMs = 3_600_000
/** Raised when the same plan would give other bytes. */
const castVersion = '1'

/** Floats among `usable` stay as they are, all others become `otherwise`; integers stay. */
export function usableFloats(usable: readonly FloatDtype[], otherwise: FloatDtype): DtypePolicy {
  return (_name, dtype) => (isFloat(dtype) && !usable.includes(dtype) ? otherwise : dtype)
}

/**
 * Conversions to F32 are exact; those to F16 and BF16 round to nearest, ties to even.
 *
 * The cache file's name tells the component's fingerprint, the date of its files and every conversion: weights that change get
 * another file. It appears under that name whole or not at all, whatever is killed when; several processes may ask at once.
 * Memory stays at some MiB. What is left of an interrupted cast is removed by the next one.
 * @returns a location for each of the component's tensors, in its own file or in the cache's
 * @throws {WeightsError} a number too large for F16, with the tensor's name; a disk that does not take the file
 */
export async function tensorsFor(
  source: CastSource,
  policy: DtypePolicy,
  cacheDir: string,
  options: CastOptions = {},
): Promise<ReadonlyMap<string, TensorLocation>> {
  const conversions = plan(source, policy)
  if (conversions.length === 0) return source.tensors
  const key = await cacheKey(source, conversions)
  const targets = [...new Set(conversions.map(({ to }) => to.toLowerCase()))].sort().join('-')
  const file = join(cacheDir, `${source.name}-${key}-${targets}.safetensors`)
  await explained(cacheDir, 'a folder for converted weights', mkdir(cacheDir, { recursive: true }))
  const cast = await castOnce(file, key, conversions, options)
  return new Map([...source.tensors].map(([name, location]) => [name, cast.get(name) ?? location]))
}

function plan({ tensors }: CastSource, policy: DtypePolicy): readonly Conversion[] {
  return [...tensors].flatMap(([name, location]) => {
    const to = policy(name, location.dtype)
    if (to === location.dtype) return []
    if (isFloat(to) && isFloatLocation(location)) return [{ name, from: location, to }]
    const expected = 'a conversion between floats'
    const got = `${location.dtype} to ${to}`
    throw new WeightsError({ violation: 'dtype', file: location.file, tensor: name, expected, got })
  })
}

/** The fingerprint samples; the files' dates see what it cannot. */
async function cacheKey(source: CastSource, conversions: readonly Conversion[]): Promise<string> {
  const dates = await modificationDates(conversions.map(({ from }) => from.file))
  const steps = conversions.map(({ name, to }) => `${name} ${to}`).sort()
  return fingerprint([castVersion, source.fingerprint, ...dates, ...steps]).slice(0, 16)
}

async function castOnce(
  file: string,
  key: string,
  conversions: readonly Conversion[],
  { onCast }: CastOptions,
): Promise<ReadonlyMap<string, TensorLocation>> {
  for (;;) {
    const ready = await openCast(file, key, conversions)
    if (ready) return ready
    const lock = await explained(file, 'a lock file beside it', tryLock(`${file}.lock`))
    if (!lock) {
      await sleep(pollMs)
      continue
    }
    try {
      const meanwhile = await openCast(file, key, conversions)
      if (meanwhile) return meanwhile
      await removeLeftovers(file)
      onCast?.({ file, tensors: conversions.length, sizeBytes: sizeBytesOf(conversions) })
      return await writeCast(file, key, conversions)
    } finally {
      await lock.release()
    }
  }
}

async function writeCast(
  file: string,
  key: string,
  conversions: readonly Conversion[],
): Promise<ReadonlyMap<string, TensorLocation>> {
  const sources = conversions.map((conversion): [string, TensorSource] => {
    const { name, from, to } = conversion
    return [name, { dtype: to, shape: from.shape, data: convert(conversion) }]
  })
  try {
    await writeSafetensors(file, sources, new Map([['atelier.cast', key]]))
  } catch (error) {
    // Whoever took the lock over while this process stood still has removed the temporary, and may have finished.
    const theirs = await openCast(file, key, conversions)
    if (theirs) return theirs
    throw error
  }
  return (await openSafetensors(file)).tensors
}

/** @returns undefined when there is no such file or it is not what it should be; then it is written anew. */
async function openCast(
  file: string,
  key: string,
  conversions: readonly Conversion[],
): Promise<ReadonlyMap<string, TensorLocation> | undefined> {
  try {
    const { tensors, metadata } = await openSafetensors(file)
    const complete = conversions.every(({ name, to }) => tensors.get(name)?.dtype === to)
    return complete && metadata.get('atelier.cast') === key ? tensors : undefined
  } catch (error) {
    if (error instanceof WeightsError) return undefined
    throw error
  }
}

/**
 * The tensor's bytes in the other type, in pieces.
 * @throws {WeightsError} a number too large for F16
 */
export async function* convert({ name, from, to }: Conversion): AsyncGenerator<Uint8Array> {
  for await (const chunk of readChunks(from, chunkBytes)) {
    const values = toFloat32(arrayOf(from.dtype, chunk.buffer))
    const converted = fromFloat32(to, values)
    if (to === 'F16') refuseOverflow(name, from.file, values, converted)
    yield new Uint8Array(converted.buffer)
  }
}

/** An infinity in a weight makes every picture black; better no model than that. */
function refuseOverflow(
  tensor: string,
  file: string,
  values: Float32Array,
  converted: ArrayLike<number>,
): void {
  for (let i = 0; i < values.length; i++) {
    if (Math.abs(converted[i] ?? 0) === Infinity && Math.abs(values[i] ?? 0) !== Infinity) {
      const expected = 'numbers of at most 65504, which F16 can hold'
      throw new WeightsError({ violation: 'overflow', file, tensor, expected, got: String(values[i]) })
    }
  }
}

/** Temporaries of this file, whose writer must be dead since we hold its lock, and what anyone forgot long ago. */
async function removeLeftovers(file: string): Promise<void> {
  const folder = join(file, '..')
  for (const name of await readdir(folder)) {
    const path = join(folder, name)
    const isTemporary = name.endsWith(temporarySuffix)
    const isOurs = isTemporary && name.startsWith(`${basename(file)}.`)
    if (isOurs || ((isTemporary || name.endsWith('.lock')) && (await isForgotten(path))))
      await rm(path, { force: true })
  }
}

async function isForgotten(path: string): Promise<boolean> {
  try {
    return Date.now() - (await stat(path)).mtimeMs > forgottenMs
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return false
    throw error
  }
}

function sizeBytesOf(conversions: readonly Conversion[]): number {
  return conversions.reduce(
    (sum, { from, to }) => sum + (from.length / bytesPerElement[from.dtype]) * bytesPerElement[to],
    0,
  )
}
