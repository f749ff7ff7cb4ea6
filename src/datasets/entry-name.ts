/** The names in an archive or folder: what they say is never used as a path, and those that try to lead elsewhere are refused. */

export type EntryName =
  | {
      readonly kind: 'file'
      /** With "/" between its parts, none of which is "", "." or "..". */
      readonly path: string
      /** The path of the folder that it is in, "" at the top. */
      readonly folder: string
      /** The path without its extension: what a picture and the text beside it have in common. */
      readonly stem: string
      /** In lower case, without the dot. */
      readonly extension: string
    }
  | { readonly kind: 'folder' }
  /** What systems leave in archives for themselves. */
  | { readonly kind: 'junk' }
  | { readonly kind: 'unsafe'; readonly reason: string }

const junkNames = new Set(['.ds_store', 'thumbs.db', 'desktop.ini', '.gitattributes', '.gitignore'])
const junkFolders = new Set(['__macosx', '.git', '.cache', '.ipynb_checkpoints'])

/** @param name as it was given, of any origin */
export function readEntryName(name: string, maxLength: number): EntryName {
  const unsafe = (reason: string): EntryName => ({ kind: 'unsafe', reason })
  if (/\p{Cc}/u.test(name) || !name.isWellFormed()) return unsafe('one with control characters')
  if (name.includes('\\')) return unsafe('one with a backslash')
  if (name.startsWith('/')) return unsafe('an absolute one')
  if (/^[a-z]:/i.test(name)) return unsafe('one with a drive letter')
  const parts = name.split('/').filter((part) => part !== '' && part !== '.')
  if (parts.includes('..')) return unsafe('one with ".."')
  const last = parts.at(-1)
  if (last === undefined || name.endsWith('/')) return { kind: 'folder' }
  if (isJunk(parts, last)) return { kind: 'junk' }
  const path = parts.join('/')
  if (path.length > maxLength) return unsafe(`one of ${path.length} characters`)
  const dot = last.lastIndexOf('.')
  const extension = dot > 0 ? last.slice(dot + 1).toLowerCase() : ''
  return {
    kind: 'file',
    path,
    folder: parts.slice(0, -1).join('/'),
    stem: dot > 0 ? path.slice(0, path.length - (last.length - dot)) : path,
    extension,
  }
}

function isJunk(parts: readonly string[], last: string): boolean {
  // AppleDouble files carry a Mac's metadata beside each file.
  if (last.startsWith('._') || junkNames.has(last.toLowerCase())) return true
  return parts.some((part) => junkFolders.has(part.toLowerCase()))
}

/**
 * @param folder of the file that names another one
 * @returns the path of that other one, or undefined when its name leads elsewhere
 */
export function resolveWithin(folder: string, name: string, maxLength: number): string | undefined {
  const named = readEntryName(folder === '' ? name : `${folder}/${name}`, maxLength)
  // What is absolute would no longer look so behind a folder.
  return named.kind === 'file' && readEntryName(name, maxLength).kind === 'file' ? named.path : undefined
}
