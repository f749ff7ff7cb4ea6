/** The program's log: JSON lines on standard output, without what users wrote. */
import { pino, type DestinationStream, type Logger, type SerializedError } from 'pino'
import type { Config } from '../config.ts'

/** @param destination standard output when left out */
export function createLog({ logLevel }: Pick<Config, 'logLevel'>, destination?: DestinationStream): Logger {
  const options = { level: logLevel, serializers: { err: describeError } }
  return destination ? pino(options, destination) : pino(options)
}

/**
 * Errors of the database quote what was written, prompts among it: Prisma's validation a query's arguments, whatever
 * `errorFormat` is, PostgreSQL's DETAIL a whole row ("Failing row contains …", under `meta`), and PGlite a query's parameters.
 */
const quoting = new Set(['meta', 'detail', 'query', 'params'])

function describeError(thrown: unknown): unknown {
  return thrown instanceof Error ? withoutQuotes(pino.stdSerializers.errWithCause(thrown)) : thrown
}

function withoutQuotes(error: SerializedError): SerializedError {
  const fields = Object.entries(error).filter(([name]) => !quoting.has(name))
  const told = Object.fromEntries(
    fields.map(([name, value]) => [
      name,
      name === 'cause' && isDescribed(value) ? withoutQuotes(value) : value,
    ]),
  ) as SerializedError
  if (error.type !== 'PrismaClientValidationError') return told
  const reason = error.message.slice(error.message.lastIndexOf('\n\n')).trim()
  const frames = error.stack.split('\n').filter((line) => /^\s+at /.test(line))
  return { ...told, message: reason, stack: [reason, ...frames].join('\n') }
}

const isDescribed = (value: unknown): value is SerializedError =>
  typeof value === 'object' && value !== null && 'stack' in value
