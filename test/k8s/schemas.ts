/**
 * Holds manifests against the schemas of their kinds: values by the validators that `kubernetes-models` generates, and names of
 * fields by its types, since Kubernetes' schemas let unknown fields pass.
 */
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import type { Resource } from './kustomization.ts'

interface Model {
  new (data: Resource): { validate(): void }
}

/** Of groups that are not Kubernetes' own. */
const packages: Readonly<Record<string, string>> = {
  'keda.sh': '@kubernetes-models/keda',
  'monitoring.coreos.com': '@kubernetes-models/prometheus-operator',
}

/** @returns the module that has a group's kinds */
function moduleOf(apiVersion: string): string {
  const [group = ''] = apiVersion.split('/')
  return `${packages[group] ?? 'kubernetes-models'}/${apiVersion}`
}

/** @throws with what is wrong, and where */
export async function validate(resource: Resource): Promise<void> {
  const { apiVersion, kind } = resource
  const models = (await import(`${moduleOf(apiVersion)}/${kind}`)) as Record<string, Model>
  const model = models[kind]
  if (!model) throw new Error(`there is no ${kind} in ${apiVersion}`)
  try {
    new model(resource).validate()
  } catch (error) {
    throw new Error(`${kind} ${resource.metadata.name} is not what its schema wants`, { cause: error })
  }
}

const virtual = fileURLToPath(new URL('manifests-under-test.ts', import.meta.url))

/** @returns what the compiler says of them: fields that their kinds do not have, among other things */
export function unknownFields(resources: readonly Resource[]): readonly string[] {
  const source = resources
    .map(
      (resource, index) =>
        `import type { I${resource.kind} as T${index} } from '${moduleOf(resource.apiVersion)}/${resource.kind}'\n` +
        `export const resource${index}: T${index} = ${JSON.stringify(resource)}`,
    )
    .join('\n')
  const options: ts.CompilerOptions = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    types: [],
    target: ts.ScriptTarget.ESNext,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
  }
  const disk = ts.createCompilerHost(options)
  const host = { ...disk, fileExists: (name: string) => name === virtual || disk.fileExists(name) }
  host.getSourceFile = (name, ...rest) =>
    name === virtual
      ? ts.createSourceFile(name, source, ts.ScriptTarget.ESNext)
      : disk.getSourceFile(name, ...rest)
  const program = ts.createProgram([virtual], options, host)
  const file = program.getSourceFile(virtual)
  return [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)].map(
    ({ messageText }) => ts.flattenDiagnosticMessageText(messageText, ' '),
  )
}
