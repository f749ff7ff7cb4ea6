/** The same picture by other means: the request as curl, the `openai` client and our own SDK send it. Keys are named, never told. */
import type { SchemaImageParameters } from '../../sdk/index.ts'

export const languages = [
  { value: 'curl', name: 'curl' },
  { value: 'openai', name: 'openai' },
  { value: 'sdk', name: 'atelier/sdk' },
] as const

export type Language = (typeof languages)[number]['value']

export interface SnippetOptions {
  /** Where the service is, without `/v1`. */
  readonly serviceUrl: string
  readonly needsKey: boolean
}

export function snippet(
  language: Language,
  parameters: SchemaImageParameters,
  options: SnippetOptions,
): string {
  const { serviceUrl, needsKey } = options
  switch (language) {
    case 'curl':
      return [
        `curl ${quote(`${serviceUrl}/v1/images/generations`)} \\`,
        ...(needsKey ? ['  -H "authorization: Bearer $ATELIER_KEY" \\'] : []),
        "  -H 'content-type: application/json' \\",
        `  -d ${quote(JSON.stringify(spare(parameters), undefined, 2))}`,
      ].join('\n')
    case 'openai': {
      const { model, prompt, size, n, output_format, ...rest } = spare(parameters)
      const known = {
        model,
        prompt,
        ...(n !== undefined && { n }),
        ...(size && { size }),
        ...(output_format && { output_format }),
      }
      return [
        "import OpenAI from 'openai'",
        '',
        `const openai = new OpenAI({ baseURL: ${literal(`${serviceUrl}/v1`)}, apiKey: ${needsKey ? 'process.env.ATELIER_KEY' : literal('none')} })`,
        "// What OpenAI's own service does not know.",
        `const ours = {\n${fields(rest)}}`,
        `const { data } = await openai.images.generate({\n  ...ours,\n${fields(known)}})`,
        'console.log(data?.[0]?.url)',
      ].join('\n')
    }
    case 'sdk':
      return [
        "import { createAtelier } from 'atelier/sdk'",
        '',
        `const atelier = createAtelier({ baseUrl: ${literal(serviceUrl)}${needsKey ? ', apiKey: process.env.ATELIER_KEY' : ''} })`,
        `const { data } = await atelier.images.generate({\n${fields(spare(parameters))}})`,
        'const { bytes, contentType } = await atelier.images.content(data[0].id)',
        'console.log(contentType, bytes.length)',
      ].join('\n')
  }
}

/** Without what is so anyway. */
function spare(parameters: SchemaImageParameters): Partial<SchemaImageParameters> & { prompt: string } {
  const idle: Partial<SchemaImageParameters> = {
    negative_prompt: '',
    n: 1,
    seed_index: 0,
    clean_caption: false,
    output_format: 'png',
    output_compression: 100,
  }
  const kept = Object.entries(parameters).filter(([name, value]) => idle[name as keyof typeof idle] !== value)
  return Object.fromEntries(kept) as Partial<SchemaImageParameters> & { prompt: string }
}

/** For a POSIX shell. */
const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`

const literal = (value: unknown): string =>
  typeof value === 'string' && !/['\\\n\r\u2028\u2029]/.test(value) ? `'${value}'` : JSON.stringify(value)

const fields = (values: Readonly<Record<string, unknown>>): string =>
  Object.entries(values)
    .map(([name, value]) => `  ${name}: ${literal(value)},\n`)
    .join('')
