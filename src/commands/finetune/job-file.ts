/** A job in a file: what `POST /v1/fine_tuning/jobs` takes, with the folder of the pictures in place of a dataset's id. */
import { readFile, stat } from 'node:fs/promises'
import { basename, dirname, resolve } from 'node:path'
import type { JobSpecification } from '../../fine-tuning/specification.ts'
import type { OnBadData } from '../../fine-tuning/job.ts'
import { readContract } from '../../http/contract.ts'
import { readSpecification } from '../../http/routes/fine-tuning-request.ts'
import { createAjv, validatorCompiler, type JsonSchema } from '../../http/validation.ts'
import type { SchemaCreateFineTuningJobRequest } from '../../sdk/schema.ts'

export interface JobFile {
  /** As it is written. */
  readonly asked: JobRequest
  /** A folder, or a model's name. */
  readonly model: string
  /** Absolute. */
  readonly dataset: string
  readonly onBadData: OnBadData
  readonly specification: JobSpecification
  /** Within which a DiT lies that the job begins with. */
  readonly sources: string | undefined
}

type JobRequest = Omit<SchemaCreateFineTuningJobRequest, 'suffix' | 'dry_run'>

/** The file is missing, is no JSON, or does not say what a job must say. */
export class JobFileError extends Error {
  override readonly name = 'JobFileError'
}

/** @throws {JobFileError} naming the file, and the field in the words of the HTTP API */
export async function readJobFile(file: string): Promise<JobFile> {
  const asked = check(file, parse(file, await read(file)))
  const beside = (path: string): string => resolve(dirname(file), path)
  const specification = inFile(file, () => readSpecification(asked))
  const { start } = specification
  const dit = start?.kind === 'dit' ? beside(start.source) : undefined
  return {
    asked,
    model: (await isFolder(beside(asked.model))) ? beside(asked.model) : asked.model,
    dataset: beside(asked.dataset),
    onBadData: asked.on_bad_data ?? 'fail',
    // Here any folder will do: who runs the command could read it anyway.
    specification: dit ? { ...specification, start: { kind: 'dit', source: basename(dit) } } : specification,
    sources: dit && dirname(dit),
  }
}

/** Whatever goes wrong with what the file says is told with the file's name. @throws {JobFileError} */
export function inFile<T>(file: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    throw new JobFileError(`${file}: ${reasonOf(error)}`, { cause: error })
  }
}

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

const read = async (file: string): Promise<string> =>
  readFile(file, 'utf8').catch((error: unknown) => {
    throw new JobFileError(`${file}: expected a job, as JSON (${reasonOf(error)})`, { cause: error })
  })

function parse(file: string, text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new JobFileError(`${file}: expected JSON (${reasonOf(error)})`, { cause: error })
  }
}

function check(file: string, value: unknown): JobRequest {
  const ajv = createAjv()
  ajv.addVocabulary(['components'])
  const validate = validatorCompiler(ajv)({ schema: jobSchema(), httpPart: 'body', method: '', url: '' })
  const result: unknown = validate(value)
  if (hasError(result)) throw new JobFileError(`${file}: ${result.error.message}`)
  return value as JobRequest
}

const hasError = (result: unknown): result is { error: Error } =>
  typeof result === 'object' && result !== null && 'error' in result && result.error instanceof Error

/** The contract's, without what only a server has: names for deployments, and a plan in place of a job. */
function jobSchema(): JsonSchema {
  const { components } = readContract().document
  const request = components.schemas['CreateFineTuningJobRequest']
  if (!request?.properties) throw new Error('openapi.yaml: expected a schema CreateFineTuningJobRequest')
  const { suffix: _suffix, dry_run: _dryRun, ...properties } = request.properties
  const dataset = { type: 'string', minLength: 1, 'x-expected': 'a folder of pictures' }
  return { ...request, components, properties: { ...properties, dataset } } as JsonSchema
}

const isFolder = (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  )
