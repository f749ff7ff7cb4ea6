/** The contract's schemas with every reference followed, for tests that look into them or check values against them. */
import type { ValidateFunction } from 'ajv'
import { readContract } from '../../src/http/contract.ts'
import { createAjv, propertiesOf, type JsonSchema } from '../../src/http/validation.ts'

const { schemas } = readContract().document.components

export function schemaOf(name: string): JsonSchema {
  return follow(schemas[name]) as JsonSchema
}

export const fieldsOf = (name: string): Readonly<Record<string, JsonSchema>> => propertiesOf(schemaOf(name))

export const validatorOf = (name: string): ValidateFunction => createAjv().compile(schemaOf(name))

function follow(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(follow)
  const { $ref } = value as { $ref?: string }
  if ($ref !== undefined) return schemaOf($ref.replace('#/components/schemas/', ''))
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, follow(inner)]))
}
