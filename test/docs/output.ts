/** Whether what came back is what a document says; `…` in it stands for whatever it was. */
import type { Output } from './blocks.ts'

/** @returns what is missing, or undefined where nothing is */
export function faultOf({ language, expected }: Output, came: string): string | undefined {
  return language === 'json' ? jsonFault(JSON.parse(expected), lastJson(came), '') : textFault(expected, came)
}

const lastJson = (text: string): unknown => JSON.parse(text.slice(text.search(/^\{/m)))

/** Each line is there, behind the line before it. */
function textFault(expected: string, came: string): string | undefined {
  let rest = came
  for (const line of expected.split('\n').filter((line) => line.trim() !== '')) {
    const found = pattern(line).exec(rest)
    if (!found) return `no ${JSON.stringify(line)}`
    rest = rest.slice(found.index + found[0].length)
  }
  return undefined
}

/** Fields that are not named may be there; lists are as long as they are shown. */
function jsonFault(expected: unknown, came: unknown, path: string): string | undefined {
  if (typeof expected === 'string' && typeof came === 'string')
    return new RegExp(`^${pattern(expected).source}$`, 's').test(came)
      ? undefined
      : `${path}: ${JSON.stringify(came)} is not ${expected}`
  if (typeof expected !== 'object' || expected === null)
    return Object.is(expected, came)
      ? undefined
      : `${path}: ${JSON.stringify(came)} is not ${JSON.stringify(expected)}`
  if (typeof came !== 'object' || came === null) return `${path}: ${JSON.stringify(came)} has no fields`
  if (Array.isArray(expected) && Array.isArray(came) && expected.length !== came.length)
    return `${path}: ${came.length} and not ${expected.length}`
  return Object.entries(expected)
    .map(([name, value]) => jsonFault(value, (came as Record<string, unknown>)[name], `${path}.${name}`))
    .find((fault) => fault !== undefined)
}

const pattern = (text: string): RegExp => new RegExp(text.trim().split('…').map(literal).join('.*'))

const literal = (text: string): string => text.replaceAll(/[\\^$.*+?()[\]{}|]/g, String.raw`\$&`)
