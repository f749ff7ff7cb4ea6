/** The file system, with this room's error where it says no. */
import { readdir, readFile, realpath, stat } from 'node:fs/promises'
import { WeightsError } from './errors.ts'

/** @throws {WeightsError} with the operating system's reason in place of its error */
export async function explained<T>(file: string, expected: string, operation: Promise<T>): Promise<T> {
  try {
    return await operation
  } catch (cause) {
    throw new WeightsError({ violation: 'unreadable', file, expected, got: systemReason(cause), cause })
  }
}

/** When each of these files was last written, each file once, in the order of their paths. */
export function modificationDates(files: Iterable<string>): Promise<readonly string[]> {
  return Promise.all(
    [...new Set(files)]
      .sort()
      .map(async (file) => String((await explained(file, 'a file', stat(file))).mtimeMs)),
  )
}

/** Absolute and without symbolic links. */
export function resolveFile(file: string): Promise<string> {
  return explained(file, 'a file', realpath(file))
}

/** Absolute and without symbolic links; certainly a folder. */
export async function resolveFolder(folder: string): Promise<string> {
  const real = await explained(folder, 'a folder', realpath(folder))
  if (await isFolder(real)) return real
  throw new WeightsError({ violation: 'unreadable', file: folder, expected: 'a folder', got: 'a file' })
}

export async function isFolder(path: string): Promise<boolean> {
  return (await explained(path, 'a file or a folder', stat(path))).isDirectory()
}

/** Names in a folder, sorted. */
export async function listFolder(folder: string): Promise<string[]> {
  return (await explained(folder, 'a folder', readdir(folder))).sort()
}

export function readWhole(file: string): Promise<Buffer> {
  return explained(file, 'a file', readFile(file))
}

/** Whether this is the operating system's error of this code. */
export function isSystemError(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}

/** What the operating system said, in few words. */
export function systemReason(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  switch ('code' in error ? error.code : undefined) {
    case 'ENOENT':
      return 'no such file or folder'
    case 'ENOTDIR':
      return 'a file where a folder should be'
    case 'EISDIR':
      return 'a folder'
    case 'EACCES':
    case 'EPERM':
      return 'no permission'
    case 'ENOSPC':
      return 'no space left on the disk'
    case 'EROFS':
      return 'a read-only disk'
    case 'ELOOP':
      return 'symbolic links in a circle'
    default:
      return error.message
  }
}
