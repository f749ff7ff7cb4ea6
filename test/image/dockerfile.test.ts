/** The Dockerfile: right by a linter, and as a cluster's restricted profile wants images. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DockerfileParser, type From, type JSONInstruction } from 'dockerfile-ast'
import { validate } from 'dockerfile-utils'
import { describe, expect, test } from 'vitest'
import packageJson from '../../package.json' with { type: 'json' }

const root = fileURLToPath(new URL('../..', import.meta.url))
const text = readFileSync(join(root, 'Dockerfile'), 'utf8')
const dockerfile = DockerfileParser.parse(text)
const instructions = dockerfile.getInstructions()
const keywordOf = (instruction: (typeof instructions)[number]) => instruction.getKeyword()

/** Each stage from its FROM to the next. */
const stages = dockerfile.getFROMs().map((from: From, index, all) => {
  const start = from.getRange().start.line
  const end = all[index + 1]?.getRange().start.line ?? Infinity
  const own = instructions.filter((each) => {
    const { line } = each.getRange().start
    return line >= start && line < end
  })
  return { name: from.getBuildStage()!, image: from.getImage()!, own }
})

test('a linter finds nothing wrong', () => {
  expect(validate(text)).toEqual([])
  expect(validate(text.replace('USER 10001', 'USRE 10001'))).not.toEqual([])
})

test('bases are arguments with a version, and Node is the one that the project is pinned to', () => {
  const pins = dockerfile.getInitialARGs().map((each) => each.getArgumentsContent()!)
  for (const pin of pins) expect(pin).toMatch(/^\w+=[\w./-]+:\d+\.\d+\.\d+[\w.-]*$/)
  expect(pins).toContain(`NODE_IMAGE=node:${packageJson.devDependencies.node}-bookworm-slim`)
  const known = [...pins.map((pin) => `\${${pin.split('=')[0]}}`), ...stages.map(({ name }) => name)]
  for (const { image } of stages) expect(known).toContain(image)
})

test('the default target is the one for CPUs, and commands are lists of words', () => {
  expect(stages.at(-1)?.name).toBe('cpu')
  for (const instruction of instructions) {
    if (!['RUN', 'CMD', 'ENTRYPOINT'].includes(keywordOf(instruction))) continue
    expect((instruction as JSONInstruction).getOpeningBracket()).not.toBeNull()
  }
})

test('what is copied from the clone is there, and is not kept from the builder', () => {
  const lines = readFileSync(join(root, '.dockerignore'), 'utf8').split('\n')
  const letIn = lines.flatMap((line) => (line.startsWith('!') ? [line.slice(1)] : []))
  for (const copy of dockerfile.getCOPYs()) {
    if (copy.getFromFlag()) continue
    for (const source of copy
      .getArguments()
      .slice(0, -1)
      .map((each) => each.getValue().replace(/^\.\//, ''))) {
      expect(existsSync(join(root, source))).toBe(true)
      expect(letIn).toContain(source)
    }
  }
})

describe.each(['cpu', 'cuda'])('%s', (target) => {
  const { own } = stages.find(({ name }) => name === target)!
  const argumentsOf = (keyword: string) =>
    own.filter((each) => keywordOf(each) === keyword).map((each) => each.getArgumentsContent())

  test('runs as nobody in particular, writes to volumes alone, and can be asked whether it is well', () => {
    expect(argumentsOf('USER')).toEqual(['10001:10001'])
    expect(argumentsOf('VOLUME')).toEqual(['["/data", "/tmp"]'])
    expect(argumentsOf('ENTRYPOINT')).toEqual(['["node", "bin/atelier.mjs"]'])
    expect(argumentsOf('HEALTHCHECK')).toEqual([
      expect.stringContaining('CMD ["node", "scripts/is-ready.mjs"]'),
    ])
  })
})
