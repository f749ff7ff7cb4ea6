/**
 * Pure: the tasks on a device → what it does next.
 *
 * Policy: in order of arrival, one task at a time, to its end. A task that has begun is therefore never overtaken, and
 * one that waits is overtaken by nobody: its wait is bounded by the work that was there before it.
 */
import type { Pipeline } from './pipeline.ts'
import { isIn, type Task, type TaskIn } from './task.ts'

/** One indivisible use of the device. Between two of them tasks may join, leave or be cancelled. */
export type Work =
  | { readonly kind: 'encode'; readonly tasks: readonly TaskIn<'encode'>[] }
  | { readonly kind: 'denoise'; readonly pipeline: Pipeline; readonly tasks: readonly TaskIn<'denoise'>[] } // all of one token count
  | { readonly kind: 'decode'; readonly tasks: readonly TaskIn<'decode'>[] }

/** @param tasks in order of arrival */
export function nextWork(tasks: Iterable<Task>): Work | undefined {
  for (const task of tasks) {
    if (isIn(task, 'encode')) return { kind: 'encode', tasks: [task] }
    if (isIn(task, 'denoise')) return { kind: 'denoise', pipeline: task.pipeline, tasks: [task] }
    if (isIn(task, 'decode')) return { kind: 'decode', tasks: [task] }
  }
  return undefined
}
