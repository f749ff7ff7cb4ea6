import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, readFile, stat, truncate, utimes, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, onTestFinished, test } from 'vitest'
import { tensorsFor, usableFloats } from '../../src/weights/cast.ts'
import { openComponent, type Component } from '../../src/weights/checkpoint.ts'
import { readFloats, readTensor, type TensorLocation } from '../../src/weights/safetensors.ts'
import { writeSafetensors, type TensorSource } from '../../src/weights/safetensors-writer.ts'
import { temporaryFolder } from './folder.ts'
import { refusal } from './rejection.ts'

const f32 = usableFloats(['F32'], 'F32')

/** 256 values that bfloat16 holds exactly, as its bits and as float32, over and over. */
const cycleBits = Uint16Array.from({ length: 256 }, (_, i) => 0x3f00 + i)
const cycle = new Float32Array(Uint32Array.from(cycleBits, (bits) => bits << 16).buffer)
const counting = (length: number) => Uint16Array.from({ length }, (_, i) => 0x3f00 + (i % 256))

async function component(
  tensors: Record<string, TensorSource>,
): Promise<{ component: Component; cacheDir: string; folder: string }> {
  const root = await temporaryFolder()
  const folder = join(root, 'transformer')
  await mkdir(folder)
  await writeFile(join(folder, 'config.json'), '{}')
  await writeSafetensors(join(folder, 'diffusion_pytorch_model.safetensors'), Object.entries(tensors))
  return { component: await openComponent(folder), cacheDir: join(root, 'cache'), folder }
}

const mixed = (): Record<string, TensorSource> => ({
  brain: { dtype: 'BF16', shape: [2, 3], data: counting(6) },
  half: { dtype: 'F16', shape: [3], data: new Float16Array([1, 0.5, -65504]) },
  single: { dtype: 'F32', shape: [2], data: new Float32Array([0.1, 1 + 2 ** -11]) },
  ids: { dtype: 'I64', shape: [1], data: new BigInt64Array([3n]) },
})

const large = (elements = 4_000_000) =>
  component({ w: { dtype: 'BF16', shape: [elements], data: counting(elements) } })

async function expectCounting(location: TensorLocation | undefined): Promise<void> {
  expect(location?.dtype).toBe('F32')
  const values = await readFloats(location!)
  expect(values.findIndex((value, i) => value !== cycle[i % 256])).toBe(-1)
}

describe('tensorsFor', () => {
  test('makes no copy where the provider can use what there is', async () => {
    const { component: source, cacheDir } = await component(mixed())
    expect(await tensorsFor(source, usableFloats(['F32', 'F16', 'BF16'], 'F32'), cacheDir)).toBe(
      source.tensors,
    )
    await expect(stat(cacheDir)).rejects.toThrow('ENOENT')
  })

  test('converts what it must, and points at the original for the rest', async () => {
    const { component: source, cacheDir } = await component(mixed())
    const tensors = await tensorsFor(source, f32, cacheDir)
    expect([...tensors.keys()]).toEqual([...source.tensors.keys()])
    expect(tensors.get('single')).toBe(source.tensors.get('single'))
    expect(tensors.get('ids')).toBe(source.tensors.get('ids'))
    expect(tensors.get('brain')).toMatchObject({ dtype: 'F32', shape: [2, 3], length: 24 })
    await expectCounting(tensors.get('brain'))
    expect([...(await readFloats(tensors.get('half')!))]).toEqual([1, 0.5, -65504])
    expect(await readdir(cacheDir)).toEqual([
      expect.stringMatching(/^transformer-[0-9a-f]{16}-f32\.safetensors$/),
    ])
  })

  test('f32 and bf16 to f16 round to nearest, ties to even', async () => {
    const { component: source, cacheDir } = await component(mixed())
    const tensors = await tensorsFor(source, usableFloats(['F16'], 'F16'), cacheDir)
    expect(await readTensor(tensors.get('single')!)).toEqual(new Float16Array([0.0999755859375, 1]))
    expect(tensors.get('brain')?.dtype).toBe('F16')
    expect([...(await readFloats(tensors.get('brain')!))]).toEqual([...cycle.subarray(0, 6)])
    expect(tensors.get('half')).toBe(source.tensors.get('half'))
  })

  test('a policy may decide by name, and each decision has its own file', async () => {
    const { component: source, cacheDir } = await component(mixed())
    const some = await tensorsFor(source, (name, dtype) => (name === 'brain' ? 'F16' : dtype), cacheDir)
    await tensorsFor(source, f32, cacheDir)
    expect(some.get('half')).toBe(source.tensors.get('half'))
    expect(await readdir(cacheDir)).toHaveLength(2)
  })

  test('works once: later calls use the file as it is', async () => {
    const { component: source, cacheDir } = await component(mixed())
    const casts: string[] = []
    const options = {
      onCast: ({ file, tensors, sizeBytes }: { file: string; tensors: number; sizeBytes: number }) =>
        casts.push(`${file} ${tensors} ${sizeBytes}`),
    }
    const tensors = await tensorsFor(source, f32, cacheDir, options)
    const { file } = tensors.get('brain')!
    const { mtimeMs } = await stat(file)
    expect(await tensorsFor(source, f32, cacheDir, options)).toEqual(tensors)
    expect(casts).toEqual([`${file} 2 36`])
    expect((await stat(file)).mtimeMs).toBe(mtimeMs)
  })

  test('weights that changed get another file, even where no sample shows it', async () => {
    const { component: source, cacheDir, folder } = await component(mixed())
    await tensorsFor(source, f32, cacheDir)
    const later = new Date(Date.now() + 60_000)
    await utimes(join(folder, 'diffusion_pytorch_model.safetensors'), later, later)
    await tensorsFor(await openComponent(folder), f32, cacheDir)
    expect(await readdir(cacheDir)).toHaveLength(2)
  })

  test('a cache file that was damaged is made anew', async () => {
    const { component: source, cacheDir } = await component(mixed())
    const { file } = (await tensorsFor(source, f32, cacheDir)).get('brain')!
    const intact = await readFile(file)
    await truncate(file, intact.length - 1)
    await tensorsFor(source, f32, cacheDir)
    expect((await readFile(file)).equals(intact)).toBe(true)
  })

  test('a number too large for f16 is an error with its tensor, not an infinity', async () => {
    const { component: source, cacheDir } = await component({
      fine: { dtype: 'F32', shape: [2], data: new Float32Array([Infinity, NaN]) },
      wo: { dtype: 'F32', shape: [2], data: new Float32Array([1, 65520]) },
    })
    const error = await refusal(tensorsFor(source, usableFloats(['F16'], 'F16'), cacheDir))
    expect(error).toMatchObject({ violation: 'overflow', tensor: 'wo', got: '65520' })
    expect(await readdir(cacheDir)).toEqual([])
  })

  test('integers are not converted', async () => {
    const { component: source, cacheDir } = await component(mixed())
    const error = await refusal(tensorsFor(source, () => 'F32', cacheDir))
    expect(error).toMatchObject({ violation: 'dtype', tensor: 'ids', got: 'I64 to F32' })
  })

  test('calls at the same time in one process work once', async () => {
    const { component: source, cacheDir } = await large(500_000)
    let casts = 0
    const all = await Promise.all(
      Array.from({ length: 5 }, () => tensorsFor(source, f32, cacheDir, { onCast: () => casts++ })),
    )
    for (const tensors of all) expect(tensors).toEqual(all[0])
    expect(casts).toBe(1)
    await expectCounting(all[0]?.get('w'))
  })
})

describe('several processes', () => {
  interface Message {
    readonly state: 'ready' | 'casting' | 'done'
    readonly casts?: number
    readonly tensors?: [string, TensorLocation][]
  }

  async function start(folder: string, cacheDir: string): Promise<ChildProcess> {
    const child = fork(new URL('cast-process.ts', import.meta.url), [folder, cacheDir], { execArgv: [] })
    onTestFinished(() => void child.kill('SIGKILL'))
    await message(child, 'ready')
    return child
  }

  async function message(child: ChildProcess, state: Message['state']): Promise<Message> {
    for (;;) {
      const [received] = (await once(child, 'message')) as [Message]
      if (received.state === state) return received
    }
  }

  test('two that start at once end with one valid file, and one of them made it', async () => {
    const { cacheDir, folder } = await large()
    const children = await Promise.all([start(folder, cacheDir), start(folder, cacheDir)])
    const done = children.map((child) => message(child, 'done'))
    for (const child of children) child.send('go')
    const [a, b] = await Promise.all(done)
    expect(a?.tensors).toEqual(b?.tensors)
    expect((a?.casts ?? 0) + (b?.casts ?? 0)).toBe(1)
    expect(await readdir(cacheDir)).toHaveLength(1)
    await expectCounting(new Map(a?.tensors).get('w'))
  })

  test('one that is killed at any moment leaves no half file, and the next one tidies up', async () => {
    const { component: source, cacheDir, folder } = await large(2_000_000)
    for (const delayMs of [0, 2, 5, 10, 20]) {
      const child = await start(folder, cacheDir)
      const casting = message(child, 'casting')
      child.send('go')
      await casting
      await sleep(delayMs)
      child.kill('SIGKILL')
      await once(child, 'exit')
      const finished = (await readdir(cacheDir)).filter((name) => name.endsWith('.safetensors'))
      if (finished.length > 0) break
    }
    const tensors = await tensorsFor(source, f32, cacheDir)
    await expectCounting(tensors.get('w'))
    expect((await readdir(cacheDir)).filter((name) => !name.endsWith('.lock'))).toHaveLength(1)
  })

  test('leftovers of the dead are removed: their lock, their temporary, and what lay there for hours', async () => {
    const { component: source, cacheDir } = await component(mixed())
    const { file } = (await tensorsFor(source, f32, cacheDir)).get('brain')!
    const dead = fork(new URL('cast-process.ts', import.meta.url), [], { execArgv: [] })
    dead.kill('SIGKILL')
    await once(dead, 'exit')
    await truncate(file, 0)
    await writeFile(`${file}.lock`, `${dead.pid} token ${hostname()}`)
    await writeFile(`${file}.0123.tmp`, 'half')
    const old = join(cacheDir, 'vae-0123-f32.safetensors.4567.tmp')
    const young = join(cacheDir, 'vae-0123-f32.safetensors.89ab.tmp')
    await Promise.all([writeFile(old, 'half'), writeFile(young, 'half')])
    await utimes(old, 0, 0)
    await expectCounting((await tensorsFor(source, f32, cacheDir)).get('brain'))
    expect((await readdir(cacheDir)).map((name) => join(cacheDir, name)).sort()).toEqual([file, young].sort())
  })
})
