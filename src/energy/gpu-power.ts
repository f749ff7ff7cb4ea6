/** What GPUs draw, as one nvidia-smi that keeps running tells every second. */
import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'

export interface GpuPower {
  /**
   * @param index of a CUDA device
   * @param fromMs of the process's clock (performance.now)
   * @returns mean watts since then; undefined where nothing was told lately
   */
  wattsSince(index: number, fromMs: number): number | undefined
  close(): Promise<void>
}

interface Reading {
  readonly atMs: number
  readonly index: number
  readonly watts: number
}

const everyMs = 1_000
/** What was told longer ago says nothing of now. */
const staleMs = 5_000
const keptMs = 15 * 60_000
const againMs = 30_000

/** @param program found on the PATH; where there is none, nothing is ever told */
export function watchGpuPower(gpus: readonly number[], program = 'nvidia-smi'): GpuPower {
  let readings: Reading[] = []
  let child: ChildProcessByStdio<null, Readable, null> | undefined
  let restart: NodeJS.Timeout | undefined
  let isClosed = false

  function start(): void {
    const query = ['--query-gpu=index,power.draw', '--format=csv,noheader,nounits']
    const running = spawn(program, [...query, `--id=${gpus.join(',')}`, `--loop-ms=${everyMs}`], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    child = running
    createInterface(running.stdout).on('line', hear)
    // A machine without the program has no meter; one whose driver is busy may have it again.
    running.on('error', () => (child = undefined))
    running.on('exit', () => {
      child = undefined
      if (isClosed) return
      restart = setTimeout(start, againMs)
      restart.unref()
    })
  }

  function hear(line: string): void {
    const [index, watts] = line.split(',').map((cell) => (cell.trim() === '' ? NaN : Number(cell)))
    if (index === undefined || watts === undefined || !Number.isFinite(watts)) return // such as [N/A]
    const atMs = performance.now()
    if (readings[0] && readings[0].atMs < atMs - 2 * keptMs)
      readings = readings.filter((reading) => reading.atMs >= atMs - keptMs)
    readings.push({ atMs, index, watts })
  }

  start()
  return {
    wattsSince(index, fromMs) {
      const own = readings.filter((reading) => reading.index === index)
      const newest = own.at(-1)
      if (!newest || newest.atMs < performance.now() - staleMs) return undefined
      const within = own.filter(({ atMs }) => atMs >= fromMs)
      const told = within.length > 0 ? within : [newest]
      return told.reduce((sum, { watts }) => sum + watts, 0) / told.length
    },
    async close() {
      isClosed = true
      clearTimeout(restart)
      if (!child) return
      const exited = once(child, 'exit')
      child.kill()
      await exited
    },
  }
}
