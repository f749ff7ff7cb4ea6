/** A schema as a list of fields that people read. */
import type { JSX } from 'preact'
import { fieldsOf, nameOf, type Contract, type Schema } from './contract.ts'
import type { Prose } from './prose.tsx'

export interface Telling {
  readonly contract: Contract
  readonly Prose: Prose
  /** Where a schema is told of, as this page leads there. */
  readonly linkTo: (schema: string) => string | undefined
}

export function Fields({ schema, ...telling }: Telling & { readonly schema: Schema }): JSX.Element | null {
  const { fields, required } = fieldsOf(schema, telling.contract)
  const named = Object.entries(fields)
  if (named.length === 0) return null
  return (
    <ul class="fields">
      {named.map(([name, field]) => (
        <Field key={name} name={name} schema={field} isRequired={required.has(name)} {...telling} />
      ))}
    </ul>
  )
}

interface FieldProps extends Telling {
  readonly name: string
  readonly schema: Schema
  readonly isRequired: boolean
  /** Where a parameter is sent. */
  readonly place?: string
}

export function Field({ name, schema, isRequired, place, ...telling }: FieldProps): JSX.Element {
  const { Prose, contract } = telling
  const known = settled(schema, telling)
  const bounds = boundsOf(known)
  const description = schema.description ?? (known === schema ? undefined : known.description)
  const nested = nestedOf(known)
  return (
    <li class="fields__field">
      <div class="fields__head">
        <code class="fields__name">{name}</code>
        <span class="fields__type">
          <Type schema={schema} {...telling} />
          {place !== undefined && ` in ${place}`}
        </span>
        {isRequired && <span class="fields__required">required</span>}
      </div>
      {description !== undefined && <Prose text={description} />}
      {bounds !== '' && <p class="fields__bounds">{bounds}</p>}
      {nested && Object.keys(fieldsOf(nested, contract).fields).length > 0 && (
        <Fields schema={nested} {...telling} />
      )}
    </li>
  )
}

/** What a name stands for, where it is not told of in a place of its own. */
function settled(schema: Schema, { contract, linkTo }: Telling): Schema {
  if (schema.$ref === undefined || linkTo(nameOf(schema.$ref)) !== undefined) return schema
  return {
    ...contract.schema(nameOf(schema.$ref)),
    ...(schema.description && { description: schema.description }),
  }
}

function nestedOf({ items, properties, oneOf, additionalProperties, ...rest }: Schema): Schema | undefined {
  if (properties) return { properties, ...rest }
  if (items) return nestedOf(items)
  const variants = oneOf?.map(nestedOf).filter((variant) => variant !== undefined)
  if (variants?.length === 1) return variants[0]
  return typeof additionalProperties === 'object' ? nestedOf(additionalProperties) : undefined
}

export function Type({ schema, ...telling }: Telling & { readonly schema: Schema }): JSX.Element {
  if (schema.$ref !== undefined) {
    const name = nameOf(schema.$ref)
    const href = telling.linkTo(name)
    return href === undefined ? (
      <Type schema={telling.contract.schema(name)} {...telling} />
    ) : (
      <a href={href}>{name}</a>
    )
  }
  if (schema.oneOf)
    return (
      <>
        {schema.oneOf.map((variant, index) => (
          <>
            {index > 0 && ' or '}
            <Type schema={variant} {...telling} />
          </>
        ))}
      </>
    )
  if (schema.items)
    return (
      <>
        list of <Type schema={schema.items} {...telling} />
      </>
    )
  if (schema.const !== undefined) return <code>{JSON.stringify(schema.const)}</code>
  const types = [schema.type ?? 'anything'].flat().map((type) => words[type] ?? type)
  return (
    <>{schema.format === 'date-time' ? types.join(' or ').replace('text', 'time') : types.join(' or ')}</>
  )
}

const words: Readonly<Record<string, string>> = { string: 'text', integer: 'whole number', object: 'object' }

function boundsOf(schema: Schema): string {
  const { enum: values, default: fallback } = schema
  const allowed = values?.filter((value) => value !== null).map((value) => JSON.stringify(value))
  return [
    allowed ? `one of ${allowed.join(', ')}` : (schema['x-expected'] ?? rangeOf(schema)),
    fallback === undefined || fallback === null ? '' : `${JSON.stringify(fallback)} when left out`,
  ]
    .filter(Boolean)
    .join(' · ')
}

function rangeOf({
  minimum,
  maximum,
  exclusiveMinimum,
  minLength,
  maxLength,
  minItems,
  maxItems,
}: Schema): string {
  const [least, most, of] =
    maxLength !== undefined
      ? [minLength, maxLength, ' characters']
      : maxItems !== undefined
        ? [minItems, maxItems, ' items']
        : [minimum, maximum, '']
  if (least !== undefined && most !== undefined) return `${least} to ${most}${of}`
  if (most !== undefined) return `at most ${most}${of}`
  if (exclusiveMinimum !== undefined) return `more than ${exclusiveMinimum}`
  return least === undefined ? '' : `at least ${least}${of}`
}
