/** A dataset is the same whether it comes as a folder, a tar, a tar.gz or a zip. */
import { gzipSync } from 'node:zlib'
import { expect, test } from 'vitest'
import { tar, zip } from './archives.ts'
import { picture } from './pictures.ts'
import { useFolders } from './reading.ts'

const folders = useFolders()

const files = async () => ({
  'a.png': await picture(1),
  'a.txt': 'a grey cat',
  'sub/b.jpg': await picture(2, { format: 'jpeg', width: 40, height: 20 }),
  'sub/c.webp': await picture(3, { format: 'webp' }),
  'sub/d.gif': await picture(4, { format: 'gif' }),
  'e.avif': await picture(5, { format: 'avif' }),
  'f.tiff': await picture(6, { format: 'tiff' }),
  'captions.jsonl':
    '{"file":"sub/b.jpg","caption":"a dog","label":"dog","aesthetic_score":6.5}\n{"file_name":"sub/c.webp","captions":["one","two"]}\n',
})

const entries = (all: Record<string, Buffer | string>) =>
  Object.entries(all).map(([name, data]) => ({ name, data }))

test('a folder, a tar, a tar.gz and a zip give the same pictures', async () => {
  const all = await files()
  const reads = [
    await folders.readFolder(all),
    await folders.readArchive(tar(entries(all))),
    await folders.readArchive(gzipSync(tar(entries(all)))),
    await folders.readArchive(zip(entries(all))),
    await folders.readArchive(zip(entries(all).map((file) => ({ ...file, method: 'deflated' as const })))),
  ]
  const plain = reads.map(({ items }) => items.map(({ file: _file, ...item }) => item))
  expect(reads.map(({ problems }) => problems)).toEqual(reads.map(() => []))
  expect(
    plain[0]?.map(({ path, captions, label, aestheticScore, format }) => [
      path,
      format,
      captions,
      label,
      aestheticScore,
    ]),
  ).toEqual([
    ['a.png', 'png', ['a grey cat'], undefined, undefined],
    ['e.avif', 'avif', [], undefined, undefined],
    ['f.tiff', 'tiff', [], undefined, undefined],
    ['sub/b.jpg', 'jpeg', ['a dog'], 'dog', 6.5],
    ['sub/c.webp', 'webp', ['one', 'two'], undefined, undefined],
    ['sub/d.gif', 'gif', [], undefined, undefined],
  ])
  for (const other of plain) expect(other).toEqual(plain[0])
})
