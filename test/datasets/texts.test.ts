/** Where captions, labels and scores come from, what goes before what, and what is wrong with texts. */
import { expect, test } from 'vitest'
import type { LabelSource } from '../../src/datasets/join.ts'
import { picture } from './pictures.ts'
import { useFolders } from './reading.ts'

const folders = useFolders()

const pictures = async (...names: string[]) =>
  Object.fromEntries(
    await Promise.all(names.map(async (name, shade) => [name, await picture(shade)] as const)),
  )

const read = async (
  names: string[],
  texts: Record<string, string | Buffer>,
  labels: LabelSource = 'auto',
) => {
  const { items, problems, wrong } = await folders.readFolder(
    { ...(await pictures(...names)), ...texts },
    { labels },
  )
  const said = Object.fromEntries(
    items.map(({ path, captions, label, aestheticScore }) => [path, [captions, label, aestheticScore]]),
  )
  return { said, problems, wrong }
}

test('metadata.csv is read as Hugging Face writes it', async () => {
  const { said, wrong } = await read(['a.png', 'sub/b.png', 'c.png'], {
    'metadata.csv':
      '\uFEFFfile_name,text,label,aesthetic_score,source\r\na.png,"a cat, ""grey""\nand small",cat,5.5,x\r\nsub/b.png,,dog,,y\r\nc.png,plain,,7,\r\n',
  })
  expect(said).toEqual({
    'a.png': [['a cat, "grey"\nand small'], 'cat', 5.5],
    'sub/b.png': [[], 'dog', undefined],
    'c.png': [['plain'], undefined, 7],
  })
  expect(wrong).toEqual([['sub/b.png', 'empty_caption']])
})

test('rows are relative to the folder of their file, and several for one picture add up', async () => {
  const { said, problems } = await read(['train/a.png', 'train/b.png'], {
    'train/metadata.jsonl':
      '{"file_name":"a.png","text":"one","label":3}\n\n{"file_name":"./a.png","text":"two","label":3}\n{"file_name":"a.png","text":"one"}',
    'captions.jsonl': '{"file":"train/b.png","captions":["x"," y "],"aesthetic_score":6}\r\n',
  })
  expect(problems).toEqual([])
  expect(said).toEqual({
    'train/a.png': [['one', 'two'], '3', undefined],
    'train/b.png': [['x', 'y'], undefined, 6],
  })
})

test('rows go before texts beside pictures, which stand in where a row has no caption', async () => {
  const { said } = await read(['a.png', 'b.png'], {
    'a.txt': 'beside a',
    'b.txt': 'beside b',
    'captions.jsonl': '{"file":"a.png","caption":"of the row"}\n{"file":"b.png","label":"cat"}',
  })
  expect(said).toEqual({
    'a.png': [['of the row'], undefined, undefined],
    'b.png': [['beside b'], 'cat', undefined],
  })
})

test('labels are the names of folders when nothing else says anything, or when asked for', async () => {
  const names = ['train/cats/a.png', 'train/dogs/b.png']
  const labels = async (texts: Record<string, string>, source?: LabelSource, which = names) =>
    Object.values((await read(which, texts, source)).said).map(([, label]) => label)
  const row = { 'metadata.jsonl': '{"file_name":"train/cats/a.png","label":"tabby"}' }
  expect(await labels({})).toEqual(['cats', 'dogs'])
  expect(await labels({ 'train/cats/a.txt': 'x' })).toEqual(['cats', 'dogs'])
  expect(await labels(row)).toEqual(['tabby', undefined])
  expect(await labels(row, 'folders')).toEqual(['cats', 'dogs'])
  expect(await labels(row, 'none')).toEqual([undefined, undefined])
  expect(await labels({}, 'auto', ['set/a.png', 'set/b.png'])).toEqual([undefined, undefined])
})

test('each wrong text is one entry, and the picture stays', async () => {
  const { said, wrong, problems } = await read(['a.png', 'b.png', 'c.png', 'd.png', 'e.png'], {
    'a.txt': ' \n ',
    'b.txt': Buffer.from([0xff, 0xfe, 0x41, 0x00]),
    'c.txt': 'x'.repeat(10_001),
    'd.txt': 'a\0b',
    'e.txt': '\uFEFFgood\r\n',
    'f.txt': 'of none',
    'g.txt': 'x'.repeat(70_000),
  })
  expect(said['e.png']).toEqual([['good'], undefined, undefined])
  expect(Object.keys(said)).toHaveLength(5)
  expect(wrong).toEqual([
    ['a.txt', 'empty_caption'],
    ['b.txt', 'invalid_text'],
    ['c.txt', 'text_too_long'],
    ['d.txt', 'invalid_text'],
    ['f.txt', 'unmatched_text'],
    ['g.txt', 'file_too_large'],
  ])
  expect(problems.filter(({ itemId }) => itemId !== undefined)).toHaveLength(4)
})

test('each wrong row is one entry that says where', async () => {
  const rows = [
    '{"file":"a.png","caption":"fine"}',
    'not JSON',
    '[1]',
    '{"caption":"of nothing"}',
    '{"file":"a.png","caption":7}',
    '{"file":"a.png","label":{}}',
    '{"file":"a.png","aesthetic_score":"high"}',
    '{"file":"a.png","caption":"half a \\ud800 pair"}',
    '{"file":"../a.png","caption":"x"}',
    '{"file":"/a.png","caption":"x"}',
    '{"file":"none.png","caption":"x"}',
    '{"file":"a.png","__proto__":{"label":"x"}}',
    `{"file":"a.png","caption":"${'x'.repeat(300_000)}"}`,
  ]
  const { said, problems } = await read(['a.png'], { 'captions.jsonl': rows.join('\n') })
  expect(said).toEqual({ 'a.png': [['fine'], undefined, undefined] })
  expect(problems.map(({ code, message }) => [code, message])).toEqual([
    ['invalid_metadata', 'line 2: expected a JSON object, got text that is not JSON'],
    ['invalid_metadata', 'line 3: expected an object with file_name, got something else'],
    ['invalid_metadata', 'line 4: expected file_name (or file), got none'],
    ['invalid_metadata', 'line 5: expected text as caption, got something else'],
    ['invalid_metadata', 'line 6: expected label as a text of at most 200 characters or a whole number'],
    ['invalid_metadata', 'line 7: expected aesthetic_score as a number, got something else'],
    ['invalid_text', 'line 8: expected text, got U+0000 or half a surrogate pair'],
    ['invalid_metadata', 'line 13: expected at most 262144 bytes, got more'],
    ['invalid_metadata', 'expected the name of a file in this folder or below, got "../a.png"'],
    ['invalid_metadata', 'expected the name of a file in this folder or below, got "/a.png"'],
    ['missing_picture', 'expected this picture, which captions.jsonl names; there is none'],
  ])
})

test('rows that contradict each other are told, and the first is taken', async () => {
  const { said, problems } = await read(['a.png'], {
    'captions.jsonl':
      '{"file":"a.png","label":"cat","aesthetic_score":5}\n{"file":"a.png","label":"dog","aesthetic_score":5}',
  })
  expect(said).toEqual({ 'a.png': [[], 'cat', 5] })
  expect(problems).toMatchObject([
    { code: 'conflicting_metadata', message: 'expected one label, got "cat" and "dog"; the first is taken' },
  ])
})

test('CSV that is none is one entry', async () => {
  const { wrong } = await read(['a.png'], {
    'metadata.csv': Buffer.from([...Buffer.from('file_name,text\na.png,'), 0xff, 0xfe]),
  })
  expect(wrong).toEqual([['metadata.csv', 'invalid_metadata']])
  const headless = await read(['a.png'], { 'metadata.csv': 'name,text\na.png,x\n' })
  expect(headless.problems).toMatchObject([
    { code: 'invalid_metadata', message: 'line 2: expected file_name (or file), got none' },
  ])
})
