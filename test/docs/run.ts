/** Runs what a document tells its readers to type, in a folder inside the clone, as they would. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import type { Block } from './blocks.ts'
import { faultOf } from './output.ts'

export const clone = fileURLToPath(new URL('../../', import.meta.url))

/** What a reader's machine has to look like. */
export interface Desk extends Disposable {
  readonly folder: string
  readonly environment: Readonly<Record<string, string>>
}

/** An id that a reader is told to put in; the last one of its kind that an answer held is put in for them. */
const kinds = ['gen', 'img', 'ds', 'ftjob', 'key']

/**
 * Answers are noted, so that ids may be put in; an answer that is an error ends the block, as `--fail-with-body` has it.
 * A pipe's status is that of whatever failed in it. npx takes seconds to find
 * what the clone brings; that is known here.
 */
const prelude = `set -euo pipefail
touch transcript
noting() {
  local arguments=("$@") id
  for kind in ${kinds.join(' ')}; do
    id=$(grep -oE "\\b\${kind}_[0-9A-Za-z]+" transcript | tail -1 || true)
    arguments=("\${arguments[@]//\${kind}_…/$id}")
  done
  command "\${arguments[@]}" | tee -a transcript
}
curl() { noting curl --silent --show-error --fail-with-body "$@"; }
npx() { [ "$1" = atelier ] && noting "${join(clone, 'bin/atelier.mjs')}" "\${@:2}" 2> >(tee -a transcript >&2); }
`

export function setDesk(environment: Readonly<Record<string, string>>): Desk {
  mkdirSync(join(clone, 'dist'), { recursive: true })
  const folder = mkdtempSync(join(clone, 'dist', '.desk-'))
  for (const name of ['examples', 'models']) symlinkSync(join(clone, name), join(folder, name))
  return {
    folder,
    environment,
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }),
  }
}

/** @returns what came, where a block ends otherwise than it should or says something else; undefined where all is right */
export async function runBlock(
  { place, language, code, fate }: Block,
  desk: Desk,
): Promise<string | undefined> {
  const file = join(desk.folder, `block.${language}`)
  writeFileSync(file, language === 'sh' ? `${prelude}${code}\n` : code)
  const { status, out, err } = await run(language === 'sh' ? 'bash' : process.execPath, file, desk)
  const told = `${place}: ${out}\n${err}`
  const refusal = fate.kind === 'run' ? fate.status : undefined
  // curl's own: an answer of 400 or above.
  const expected = refusal === undefined ? 0 : 22
  if (status !== expected) return `${told}\nit ended with ${status} and not with ${expected}`
  if (refusal !== undefined && !err.includes(String(refusal))) return `${told}\nits status was not ${refusal}`
  const faults = ('outputs' in fate ? fate.outputs : []).map((output) => faultOf(output, out))
  const fault = faults.find((fault) => fault !== undefined)
  return fault === undefined ? undefined : `${told}\n${fault}`
}

async function run(command: string, file: string, { folder, environment }: Desk) {
  const child = spawn(command, [file], {
    cwd: folder,
    // A group of its own, so that what it left running can be ended with it.
    detached: true,
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const [out, err] = [text(child.stdout), text(child.stderr)]
  const [status] = (await once(child, 'exit')) as [number | null]
  try {
    process.kill(-child.pid!, 'SIGTERM')
  } catch {
    // Nothing was left running.
  }
  return { status, out: await out, err: await err }
}
