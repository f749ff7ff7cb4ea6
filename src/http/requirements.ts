/** What each operation asks of its caller, as openapi.yaml has it under `security`: the one place where that is said. */
import { isScope, type Scope } from '../access/scopes.ts'
import { listOperations, type ContractDocument } from './contract.ts'

/** A key with one of these scopes, or, where it may be so, a signed address; or nothing, of anybody. */
export type Requirement = { readonly anyOf: readonly Scope[]; readonly bySignature: boolean } | 'nothing'

export type Requirements = ReadonlyMap<string, Requirement>

/** @throws for an operation that does not say, and for what nobody enforces: such a server must not start */
export function readRequirements(document: ContractDocument): Requirements {
  return new Map<string, Requirement>(
    listOperations(document).map(({ operationId, security }) => {
      if (security === undefined)
        throw new Error(`openapi.yaml does not say under "security" who may call ${operationId}`)
      if (security.length === 0) return [operationId, 'nothing']
      const anyOf: Scope[] = []
      let bySignature = false
      for (const alternative of security) {
        const [[scheme, [scope = '', ...more]] = ['', []], ...others] = Object.entries(alternative)
        const isOne = more.length === 0 && others.length === 0
        if (isOne && scheme === 'apiKey' && isScope(scope)) anyOf.push(scope)
        else if (isOne && scheme === 'signedAddress' && scope === '') bySignature = true
        else
          throw new Error(
            `openapi.yaml asks of callers of ${operationId} what nobody enforces: ${JSON.stringify(alternative)}`,
          )
      }
      return [operationId, { anyOf, bySignature }]
    }),
  )
}
