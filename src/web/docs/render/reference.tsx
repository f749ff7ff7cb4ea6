/** The operations of one tag, and the objects that they speak of. */
import type { JSX } from 'preact'
import { nameOf, type Contract, type Media, type Operation, type Tag } from './contract.ts'
import { Code } from './prose.tsx'
import { Field, Fields, Type, type Telling } from './schema.tsx'

export function TagPage({ tag, ...telling }: Telling & { readonly tag: Tag }): JSX.Element {
  const { Prose, contract } = telling
  return (
    <>
      <h1>{titleOf(tag.name)}</h1>
      <Prose text={tag.description} />
      {tag.operations.map((operation) => (
        <OperationSection key={operation.operationId} operation={operation} {...telling} />
      ))}
      {tag.schemas.map((name) => (
        <section key={name} class="object" aria-labelledby={name}>
          <Heading id={name} title={name} note="object" />
          {contract.schema(name).description !== undefined && (
            <Prose text={contract.schema(name).description!} />
          )}
          <Variants name={name} {...telling} />
          <Fields schema={contract.schema(name)} {...telling} />
        </section>
      ))}
    </>
  )
}

export const titleOf = (tag: string): string =>
  `${tag.charAt(0).toUpperCase()}${tag.slice(1).replaceAll('-', ' ')}`

function Heading(props: {
  readonly id: string
  readonly title: string
  readonly note?: string
}): JSX.Element {
  return (
    <h2 id={props.id}>
      {props.title}
      {props.note !== undefined && <small>{props.note}</small>}
      <a class="anchor" href={`#${props.id}`} aria-label={`Link to ${props.title}`}>
        #
      </a>
    </h2>
  )
}

function Variants({ name, ...telling }: Telling & { readonly name: string }): JSX.Element | null {
  const { oneOf } = telling.contract.schema(name)
  if (!oneOf) return null
  return (
    <p>
      One of <Type schema={{ oneOf }} {...telling} />.
    </p>
  )
}

function OperationSection({
  operation,
  ...telling
}: Telling & { readonly operation: Operation }): JSX.Element {
  const { operationId, method, path, summary, description, parameters, requestBody } = operation
  const { Prose, contract } = telling
  return (
    <section class="operation" aria-labelledby={operationId}>
      <Heading id={operationId} title={summary.replace(/\.$/, '')} />
      <p class="operation__route">
        <span class="operation__method" data-method={method}>
          {method.toUpperCase()}
        </span>
        <code>{path}</code>
      </p>
      {description !== undefined && <Prose text={description} />}
      <p class="operation__access">{accessOf(operation)}</p>
      {parameters.length > 0 && (
        <>
          <h3>Parameters</h3>
          <ul class="fields">
            {parameters.map((parameter) => (
              <Field
                key={parameter.name}
                name={parameter.name}
                schema={
                  parameter.description === undefined
                    ? parameter.schema
                    : { ...parameter.schema, description: parameter.description }
                }
                isRequired={parameter.required === true}
                place={parameter.in === 'header' ? 'a header' : `the ${parameter.in}`}
                {...telling}
              />
            ))}
          </ul>
        </>
      )}
      {Object.entries(requestBody?.content ?? {}).map(([type, media]) => (
        <Request key={type} type={type} media={media} operation={operation} {...telling} />
      ))}
      {!requestBody && method === 'get' && <Code text={curlOf(operation, contract)} language="sh" />}
      <Responses operation={operation} {...telling} />
    </section>
  )
}

function accessOf({ security }: Operation): string {
  const scopes = security.flatMap((way) => way['apiKey'] ?? [])
  if (scopes.length === 0) return 'Needs no key.'
  const signed = security.some((way) => 'signedAddress' in way)
    ? ', or the signed address that it was told under'
    : ''
  return `Needs a key with the scope ${scopes.join(' or ')}${signed}.`
}

function Request({
  type,
  media,
  operation,
  ...telling
}: Telling & { readonly type: string; readonly media: Media; readonly operation: Operation }): JSX.Element {
  const { contract } = telling
  const examples = Object.values(media.examples ?? {})
  const schema = media.schema?.$ref === undefined ? media.schema : contract.schema(nameOf(media.schema.$ref))
  return (
    <>
      <h3>
        Body <small>{type}</small>
      </h3>
      {examples.map(({ summary, value }, index) => (
        <details key={summary} class="example" open={index === 0}>
          <summary>{summary ?? 'Example'}</summary>
          <Code text={curlOf(operation, contract, { type, value })} language="sh" />
        </details>
      ))}
      {examples.length === 0 && type !== 'application/json' && (
        <Code text={curlOf(operation, contract, { type, value: undefined })} language="sh" />
      )}
      {schema && <Fields schema={schema} {...telling} />}
    </>
  )
}

/** What a reader can paste: the parameters that must be there are left to put in. */
function curlOf(
  { method, path }: Operation,
  { server }: Contract,
  body?: { readonly type: string; readonly value: unknown },
): string {
  const verb = method === 'get' || (method === 'post' && body) ? '' : `-X ${method.toUpperCase()} `
  const address = `${server}${path.replaceAll(/\{[^}]+\}/g, '…')}`
  if (!body) return `curl ${verb}${address}`
  const data =
    body.value === undefined
      ? '--data-binary @FILE'
      : `-d '${JSON.stringify(body.value, undefined, 2).replaceAll("'", String.raw`'\''`)}'`
  return `curl ${verb}${address} \\\n  -H 'content-type: ${body.type}' \\\n  ${data}`
}

function Responses({ operation, ...telling }: Telling & { readonly operation: Operation }): JSX.Element {
  const good = operation.responses.filter(({ status }) => /^[23]/.test(status))
  const bad = operation.responses.filter(({ status }) => !/^[23]/.test(status))
  return (
    <>
      <h3>Answers</h3>
      <ul class="answers">
        {good.map((answer) => (
          <Answer key={answer.status} {...answer} {...telling} />
        ))}
      </ul>
      {bad.length > 0 && (
        <details class="errors">
          <summary>
            Errors: {bad.map(({ status }) => (status === 'default' ? 'others' : status)).join(', ')}
          </summary>
          <ul class="answers">
            {bad.map((answer) => (
              <Answer key={answer.status} {...answer} {...telling} />
            ))}
          </ul>
        </details>
      )}
    </>
  )
}

function Answer({ status, body, ...telling }: Telling & Operation['responses'][number]): JSX.Element {
  const { Prose } = telling
  return (
    <li class="answers__answer">
      <code class="answers__status" data-class={status.charAt(0)}>
        {status === 'default' ? 'other' : status}
      </code>
      <div>
        {body.description !== undefined && <Prose text={body.description} />}
        <p class="answers__content">
          {Object.entries(body.content ?? {}).map(([type, { schema }], index) => (
            <>
              {index > 0 && ', or '}
              {schema && <Type schema={schema} {...telling} />} <small>{type}</small>
            </>
          ))}
        </p>
      </div>
    </li>
  )
}
