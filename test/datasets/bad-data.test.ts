/** Whatever is wrong with a dataset: each bad file one clear entry, the rest used, nothing written outside, bombs refused. */
import { readdirSync } from 'node:fs'
import { rename, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import * as fc from 'fast-check'
import sharp from 'sharp'
import { beforeAll, describe, expect, test } from 'vitest'
import { readEntryName, resolveWithin } from '../../src/datasets/entry-name.ts'
import { archiveKindOf } from '../../src/datasets/archive.ts'
import { DatasetError } from '../../src/datasets/errors.ts'
import { folderEntries } from '../../src/datasets/folder-entries.ts'
import { defaultLimits } from '../../src/datasets/limits.ts'
import { CannotKeep, copiedInto } from '../../src/datasets/picture-files.ts'
import { problem } from '../../src/datasets/problems.ts'
import { readEntries } from '../../src/datasets/read-entries.ts'
import { readFolder } from '../../src/datasets/scan.ts'
import { tar, tarBlocks, zip } from './archives.ts'
import { filesBelow } from './fixture.ts'
import { hollowPng, picture } from './pictures.ts'
import { useFolders } from './reading.ts'

const folders = useFolders()
let good: Buffer
let other: Buffer
beforeAll(async () => {
  good = await picture(1)
  other = await picture(2)
})

describe('pictures', () => {
  test.each(['png', 'jpeg', 'webp', 'avif', 'gif', 'tiff'] as const)(
    'a truncated %s is left out',
    async (format) => {
      const noise = await sharp({
        create: {
          width: 96,
          height: 96,
          channels: 3,
          background: '#888',
          noise: { type: 'gaussian', mean: 128, sigma: 60 },
        },
      })
        .toFormat(format)
        .toBuffer()
      const { items, problems } = await folders.readFolder({
        'good.png': good,
        [`cut.${format}`]: noise.subarray(0, Math.floor(noise.length * 0.7)),
        [`whole.${format}`]: noise,
      })
      expect(items.map(({ path }) => path)).toEqual(['good.png', `whole.${format}`])
      expect(problems).toMatchObject([{ path: `cut.${format}`, code: 'unreadable_picture' }])
    },
  )

  test('a picture of 50,000 × 50,000 pixels is refused by its header', async () => {
    const { problems } = await folders.readFolder({ 'good.png': good, 'huge.png': hollowPng(50_000, 50_000) })
    expect(problems).toEqual([
      {
        path: 'huge.png',
        code: 'too_many_pixels',
        message: 'expected at most 67108864 pixels, got 50000 × 50000',
      },
    ])
  })

  test('what only calls itself a picture never reaches a decoder', async () => {
    const svg =
      '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><image href="file:///etc/passwd"/></svg>'
    const { items, wrong } = await folders.readFolder({
      'good.png': good,
      'a.png': svg,
      'b.jpg': '%PDF-1.4',
      'c.webp': Buffer.alloc(0),
      'd.svg': svg,
      'e.png': Buffer.concat([good.subarray(0, 8), Buffer.from(svg)]),
    })
    expect(items).toHaveLength(1)
    expect(wrong).toEqual([
      ['a.png', 'unreadable_picture'],
      ['b.jpg', 'unreadable_picture'],
      ['c.webp', 'unreadable_picture'],
      ['d.svg', 'unsupported_file'],
      ['e.png', 'unreadable_picture'],
    ])
  })

  test('equal pictures are kept once, and the content decides the format', async () => {
    const { items, problems } = await folders.readFolder({
      'a.png': good,
      'b.jpg': good,
      'b.txt': 'the twin',
      'c.gif': other,
    })
    expect(items.map(({ path, format }) => [path, format])).toEqual([
      ['a.png', 'png'],
      ['c.gif', 'png'],
    ])
    expect(problems).toMatchObject([
      {
        path: 'b.jpg',
        code: 'duplicate_picture',
        message: 'expected each picture once, got the bytes of a.png again',
      },
    ])
  })

  test('sizes are those of the upright picture', async () => {
    const turned = await sharp(await picture(5, { format: 'jpeg', width: 40, height: 20 }))
      .withMetadata({ orientation: 6 })
      .toBuffer()
    const { items } = await folders.readFolder({ 'a.jpg': turned })
    expect(items).toMatchObject([{ width: 20, height: 40 }])
  })

  test('a file larger than a picture may be is not read', async () => {
    const { wrong } = await folders.readFolder(
      { 'a.png': good, 'b.png': Buffer.alloc(1000) },
      { limits: { maxPictureBytes: 999 } },
    )
    expect(wrong).toEqual([['b.png', 'file_too_large']])
  })
})

test('what systems leave behind is passed over in silence, and archives within are not opened', async () => {
  const { items, wrong } = await folders.readArchive(
    zip([
      { name: 'a.png', data: good },
      { name: '__MACOSX/._a.png', data: 'junk' },
      { name: '.DS_Store', data: 'junk' },
      { name: '._b.png', data: 'junk' },
      { name: 'Thumbs.db', data: 'junk' },
      { name: 'folder/' },
      { name: 'inner.zip', data: zip([{ name: 'b.png', data: other }]) },
      { name: 'README.md', data: '# pets' },
      { name: 'LICENSE' },
    ]),
  )
  expect(items.map(({ path }) => path)).toEqual(['a.png'])
  expect(wrong).toEqual([
    ['LICENSE', 'unsupported_file'],
    ['README.md', 'unsupported_file'],
    ['inner.zip', 'nested_archive'],
  ])
})

describe('names', () => {
  const evil = [
    '/etc/passwd.png',
    '../out.png',
    'a/../../out.png',
    'C:\\x.png',
    'a\\..\\b.png',
    'C:/x.png',
    'a\nb.png',
    `${'x'.repeat(99)}.png`,
  ]

  test.each([
    ['tar', tar],
    ['zip', zip],
  ] as const)('in a %s that lead elsewhere are refused, and nothing is written outside', async (_, pack) => {
    const files = evil.map((name, shade) => ({ name, data: Buffer.concat([good, Buffer.from([shade])]) }))
    const read = await folders.readArchive(pack([...files, { name: 'ok.png', data: good }]), {
      limits: { maxPathLength: 80 },
    })
    expect(read.items.map(({ path }) => path)).toEqual(['ok.png'])
    expect(new Set(read.problems.map(({ code }) => code))).toEqual(new Set(['unsafe_path']))
    expect(read.problems).toHaveLength(evil.length)
    expect(readdirSync(join(read.folder, '..')).sort()).toEqual(['upload', 'within'])
    expect(filesBelow(read.folder)).toEqual([read.items[0]?.file])
  })

  test('links, devices and pipes in a tar are refused', async () => {
    const { items, wrong } = await folders.readArchive(
      tar([
        { name: 'soft.png', type: '2', linkname: '/etc/passwd' },
        { name: 'hard.png', type: '1', linkname: '../../secret.png' },
        { name: 'device.png', type: '3' },
        { name: 'pipe.png', type: '6' },
        { name: 'folder', type: '5' },
        { name: 'soft.png/a.png', data: good },
        { name: 'unknown.png', type: 'Z' },
        { name: 'b.png', data: other },
      ]),
    )
    expect(items.map(({ path }) => path)).toEqual(['b.png', 'soft.png/a.png'])
    expect(wrong).toEqual(
      ['device', 'hard', 'pipe', 'soft', 'unknown'].map((name) => [`${name}.png`, 'not_a_file']),
    )
  })

  test('links and devices in a zip are refused, and so are encrypted files and such with two names', async () => {
    const { items, wrong } = await folders.readArchive(
      zip([
        { name: 'a.png', data: good },
        { name: 'link.png', data: '/etc/passwd', unixMode: 0o120777 },
        { name: 'device.png', unixMode: 0o060644 },
        { name: 'secret.png', data: good, flags: 0x801, method: 'deflated' },
        { name: 'two.png', localName: 'one.png', data: other },
      ]),
    )
    expect(items.map(({ path }) => path)).toEqual(['a.png'])
    expect(wrong).toEqual([
      ['device.png', 'not_a_file'],
      ['link.png', 'not_a_file'],
      ['secret.png', 'damaged_file'],
      ['two.png', 'damaged_file'],
    ])
  })

  test('the same name twice counts once', async () => {
    for (const pack of [tar, zip]) {
      const { items, wrong } = await folders.readArchive(
        pack([
          { name: 'a.png', data: good },
          { name: './a.png', data: other },
        ]),
      )
      expect(items).toHaveLength(1)
      expect(wrong).toEqual([['a.png', 'duplicate_path']])
    }
  })

  test('a link that takes the place of a folder while it is read is not followed', async () => {
    const [folder, elsewhere] = [
      await folders.folder({ 'pets/a.png': good }),
      await folders.folder({ 'a.png': other }),
    ]
    const found = await Array.fromAsync(folderEntries(folder))
    await rename(join(folder, 'pets'), join(folder, 'before'))
    await symlink(elsewhere, join(folder, 'pets'))
    const [entry] = found
    await expect(entry?.kind === 'file' && entry.open()).rejects.toThrow('another thing')
  })

  // Elsewhere no file can have such a name.
  test.runIf(process.platform === 'linux')('that are not UTF-8 in a folder are one entry each', async () => {
    const folder = await folders.folder({ 'a.png': good })
    await writeFile(
      Buffer.concat([Buffer.from(`${folder}/`), Buffer.from([0xe4]), Buffer.from('.png')]),
      other,
    )
    const readings = await Array.fromAsync(readFolder(folder))
    const codes = readings.flatMap((reading) => (reading.kind === 'problem' ? [reading.problem.code] : []))
    expect(codes).toEqual(['damaged_file'])
    expect(readings.filter(({ kind }) => kind === 'item')).toHaveLength(1)
  })

  test('a link in a folder is not followed', async () => {
    const folder = await folders.folder({ 'a.png': good })
    await symlink('/etc', join(folder, 'etc'))
    await symlink(join(folder, 'a.png'), join(folder, 'b.png'))
    const readings = await Array.fromAsync(readFolder(folder))
    const found = readings.flatMap((reading) => (reading.kind === 'problem' ? [reading.problem] : []))
    expect(found).toMatchObject([
      { path: 'b.png', code: 'not_a_file' },
      { path: 'etc', code: 'not_a_file' },
    ])
  })

  test('property: a name is refused, passed over, or a path below its folder', () => {
    const part = fc.oneof(
      fc.constantFrom(
        '..',
        '.',
        '',
        '/',
        '\\',
        '\0',
        'C:',
        '~',
        '...',
        '.. ',
        ' ',
        'a',
        'ü',
        '．．',
        '\u2215',
        'CON',
        '%2e%2e',
      ),
      fc.string({ unit: 'binary', maxLength: 6 }),
    )
    const name = fc
      .tuple(fc.array(part, { maxLength: 8 }), fc.constantFrom('/', '', '\\'))
      .map(([parts, glue]) => parts.join(glue))
    const leadsOut = (path: string) =>
      path.split('/').some((each) => ['', '.', '..'].includes(each) || /[\\\0]/.test(each)) ||
      !join('/root', path).startsWith('/root/')
    fc.assert(
      fc.property(name, name, (given, below) => {
        const read = readEntryName(given, 1024)
        const named = read.kind === 'file' ? [read.path, resolveWithin(read.folder, below, 1024)] : []
        expect(named.filter((path) => path !== undefined && leadsOut(path))).toEqual([])
      }),
      { numRuns: 500 },
    )
  })
})

test('a disk that takes no more fails the set, and no file is blamed for it', async () => {
  const folder = await folders.fresh()
  await writeFile(join(folder, 'unchecked-1'), 'a file in the way')
  const files = folderEntries(await folders.folder({ 'a.png': good }))
  const options = { limits: defaultLimits, labels: 'auto', files: copiedInto(folder, 1) } as const
  await expect(Array.fromAsync(readEntries(files, options))).rejects.toBeInstanceOf(CannotKeep)
})

test('what a message quotes can be stored', () => {
  const { message } = problem('a.csv', 'invalid_metadata', `got "\0"${'x'.repeat(1000)}`)
  expect(message).toMatch(/^got "�"x+$/)
  expect(message).toHaveLength(500)
})

describe('archives', () => {
  test('that unpack out of proportion are refused', async () => {
    const zeros = Buffer.alloc(4_000_000)
    const limits = { ratioFreeBytes: 1_000_000 }
    const bombs = [
      zip([{ name: 'a.png', data: zeros, method: 'deflated' }]),
      gzipSync(tar([{ name: 'a.png', data: zeros }])),
    ]
    for (const bomb of bombs)
      await expect(folders.readArchive(bomb, { limits })).rejects.toMatchObject({ code: 'archive_bomb' })
  })

  test('whose files share bytes are refused before any is opened', async () => {
    const files = [
      { name: 'a.png', data: good },
      ...Array.from({ length: 50 }, (_, index) => ({ name: `${index}.png`, sharesWith: 0 })),
    ]
    await expect(folders.readArchive(zip(files))).rejects.toMatchObject({ code: 'archive_bomb' })
  })

  test('with more files, more bytes or more text than allowed are refused', async () => {
    const files = [1, 2, 3].map((index) => ({ name: `${index}.txt`, data: 'x'.repeat(600) }))
    for (const pack of [tar, zip]) {
      const read = (limits: object) => folders.readArchive(pack(files), { limits })
      await expect(read({ maxEntries: 2 })).rejects.toMatchObject({ code: 'too_many_files' })
      await expect(read({ maxTotalBytes: 1000 })).rejects.toMatchObject({ code: 'too_large' })
      await expect(read({ maxHeldBytes: 2500 })).rejects.toMatchObject({ code: 'too_large' })
    }
  })

  test.each(['{"file":"a.png"}', '1'])(
    'whose metadata has rows such as %s without end are refused',
    async (row) => {
      const read = (count: number) =>
        folders.readArchive(
          zip([
            { name: 'a.png', data: good },
            { name: 'captions.jsonl', data: `${row}\n`.repeat(count) },
          ]),
          { limits: { maxHeldBytes: 100_000 } },
        )
      expect((await read(100)).items).toHaveLength(1)
      await expect(read(300)).rejects.toMatchObject({ code: 'too_large' })
    },
  )

  test('packed twice are refused, not unpacked by anybody', async () => {
    const twice = gzipSync(gzipSync(tar([{ name: 'a.png', data: good }])))
    await expect(folders.readArchive(twice)).rejects.toMatchObject({ code: 'invalid_archive' })
  })

  test('that lie about sizes give no more than they say', async () => {
    const { wrong } = await folders.readArchive(
      zip([
        { name: 'good.png', data: good },
        { name: 'small.png', data: Buffer.alloc(100_000), sizeBytes: 100, method: 'deflated' },
      ]),
    )
    expect(wrong).toEqual([['small.png', 'damaged_file']])
    const endless = Buffer.concat(tarBlocks({ name: 'a.png', data: good, sizeBytes: 8 ** 11 - 1 }))
    await expect(folders.readArchive(endless)).rejects.toMatchObject({ code: 'invalid_archive' })
  })

  test('with a header that would fill the memory are read without it', async () => {
    const name = `${'n'.repeat(100_000)}.png`
    const record = ` path=${name}\n`
    const header = `${record.length + 6}${record}`
    const { items, problems } = await folders.readArchive(
      tar([
        { name: 'x', type: 'x', data: header },
        { name: 'short.png', data: good },
      ]),
    )
    expect(items.map(({ path }) => path)).toEqual(['short.png'])
    expect(problems).toEqual([
      { path: 'x', code: 'not_a_file', message: 'expected a file, got a header of more than 65536 bytes' },
    ])
  })

  test('of nothing are empty, not damaged', async () => {
    const blocks = [2, 20].map((count) => Buffer.alloc(512 * count))
    for (const nothing of [...blocks, ...blocks.map((block) => gzipSync(block)), zip([])])
      await expect(folders.readArchive(nothing)).rejects.toMatchObject({
        code: 'no_pictures',
        message: expect.stringMatching(/got an empty dataset$/),
      })
  })

  test('that are damaged fail with a reason, wherever they are cut', async () => {
    const files = [1, 2, 3].map((index) => ({
      name: `${index}.png`,
      data: Buffer.concat([good, Buffer.alloc(1000, index)]),
    }))
    for (const whole of [tar(files), gzipSync(tar(files)), zip(files)]) {
      for (const share of [0.2, 0.5, 0.8]) {
        const cut = whole.subarray(0, Math.floor(whole.length * share))
        await expect(folders.readArchive(cut)).rejects.toMatchObject({ code: 'invalid_archive' })
      }
    }
  })

  test('property: bytes of any kind are an archive, read or refused with a code of ours', async () => {
    const seeds = [
      tar([
        { name: 'a.png', data: good },
        { name: 'a.txt', data: 'x' },
      ]),
      zip([{ name: 'a.png', data: good, method: 'deflated' }]),
      gzipSync(tar([{ name: 'a.png', data: good }])),
    ]
    const flips = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 6 })
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...seeds), flips, async (seed, changes) => {
        const bytes = Buffer.from(seed)
        for (const [at, value] of changes) bytes[at % bytes.length] = value
        const [outcome] = await Promise.allSettled([folders.readArchive(bytes)])
        expect(outcome.status === 'fulfilled' || outcome.reason instanceof DatasetError).toBe(true)
      }),
      { numRuns: 60 },
    )
  })

  test('are known by their bytes', () => {
    expect(archiveKindOf(tar([]))).toBe('tar')
    expect(archiveKindOf(zip([]))).toBe('zip')
    expect(archiveKindOf(gzipSync(tar([])))).toBe('tar.gz')
    for (const none of [good, Buffer.from('Rar!'), Buffer.alloc(0), Buffer.alloc(600, 'x')])
      expect(archiveKindOf(none)).toBeUndefined()
  })
})
