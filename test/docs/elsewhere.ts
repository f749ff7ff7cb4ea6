/** Blocks that cannot run in a test: why, and what is held of them all the same. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describeSettings, readConfig } from '../../src/config.ts'
import { k8s, readKustomization } from '../k8s/kustomization.ts'
import type { Block } from './blocks.ts'
import { clone } from './run.ts'
import packageJson from '../../package.json' with { type: 'json' }

/** Every reason there is, with the test that holds what the block does where there is one. */
export const reasons: Readonly<Record<string, { readonly because: string; readonly heldBy?: string }>> = {
  clone: { because: 'it is what runs this test', heldBy: 'test/commands/launcher.test.ts' },
  cuda: { because: 'it needs an NVIDIA GPU' },
  webgpu: { because: 'it needs a GPU', heldBy: 'test/long/webgpu.test.ts' },
  docker: { because: 'it needs a container engine', heldBy: 'test/k8s/manifests.test.ts' },
  kubernetes: { because: 'it needs a cluster', heldBy: 'test/k8s/manifests.test.ts' },
  proxy: { because: 'it needs a proxy in front', heldBy: 'test/long/rolling-restart.test.ts' },
  machines: { because: 'it needs several machines', heldBy: 'test/long/takeover.test.ts' },
  s3: { because: 'it needs a bucket', heldBy: 'test/storage/s3-blobs.test.ts' },
  hub: { because: 'it needs the hub, and gigabytes', heldBy: 'test/hub/pull.test.ts' },
  parity: { because: 'it is a test of its own', heldBy: 'test/commands/parity.test.ts' },
  evaluate: { because: 'it is a test of its own', heldBy: 'test/commands/evaluate.test.ts' },
  finetune: { because: 'it is a test of its own', heldBy: 'test/commands/finetune.test.ts' },
}

const commandLine = readFileSync(join(clone, 'src/cli.ts'), 'utf8')
const commands = new Set([...commandLine.matchAll(/command\('([a-z]+)'\)/g)].map(([, name]) => name))
const flags = new Set([...commandLine.matchAll(/'(--[a-z-]+)/g)].map(([, flag]) => flag))
const npm = ['ci', 'start', 'test', 'rebuild']

/** @returns what the block names and is not there */
export function faultsOf({ code }: Block): string[] {
  const faults: string[] = []
  const expect = (isRight: boolean, what: string) => void (isRight || faults.push(what))
  const lines = code.replaceAll(/#.*$/gm, '').split(/\n|&&/)
  for (const line of lines) {
    const settings = [...line.matchAll(/\b(ATELIER_[A-Z0-9_]+)=(\S*)/g)]
    for (const [, name = '', value = ''] of settings)
      expect(isSetting(name, value), `${name}=${value} is no setting`)
    const [, said = ''] = /\batelier ((?:[a-z]+\b ?)+)/.exec(line.replace(/kubectl.*/, '')) ?? []
    const [command, sub] = said.trim().split(' ')
    expect(command === undefined || command === '' || commands.has(command), `atelier ${command}`)
    if (sub !== undefined && (command === 'key' || command === 'model'))
      expect(commands.has(sub), `atelier ${said}`)
    if (said !== '')
      for (const [flag] of line.matchAll(/--[a-z-]+/g)) expect(flags.has(flag), `atelier ${said} ${flag}`)
    const [, script, name] = /\bnpm (?:run )?([a-z:]+) ?(\S+)?/.exec(line) ?? []
    if (script !== undefined) expect(npm.includes(script) || script in packageJson.scripts, `npm ${script}`)
    if (script === 'rebuild')
      expect(Object.keys(packageJson.dependencies).includes(name!), `npm rebuild ${name}`)
    const [, target] = /docker build .*--target (\S+)/.exec(line) ?? []
    if (target !== undefined)
      expect(
        readFileSync(join(clone, 'Dockerfile'), 'utf8').includes(` AS ${target}\n`),
        `--target ${target}`,
      )
    const [, overlay] = /kubectl apply -k (\S+)/.exec(line) ?? []
    if (overlay !== undefined) expect(existsSync(join(clone, overlay, 'kustomization.yaml')), overlay)
    const [, job, container] = /job\/(\S+) -c (\S+)/.exec(line) ?? []
    if (job !== undefined) expect(hasContainer(job, container!), `job/${job} -c ${container}`)
  }
  return faults
}

function isSetting(name: string, value: string): boolean {
  if (!describeSettings().some(({ variable }) => variable === name)) return false
  // What a reader is to put in cannot be judged.
  if (/…|[A-Z]{2,}|^\$/.test(value)) return true
  try {
    return readConfig({ [name]: value }) !== undefined
  } catch {
    return false
  }
}

const hasContainer = (job: string, container: string): boolean =>
  readKustomization(join(k8s, 'cluster')).resources.some(
    ({ kind, metadata, spec }) =>
      kind === 'Job' &&
      metadata.name === job &&
      spec.template.spec.containers.some(({ name }: { name: string }) => name === container),
  )
