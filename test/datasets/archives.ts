/** Archives written byte by byte, so that a test can lie in any field. */
import { crc32, deflateRawSync } from 'node:zlib'

export interface TarFile {
  readonly name: string
  readonly data?: Buffer | string
  /** ustar's type flag: "0" a file, "1" a hard link, "2" a symbolic one, "3" a device, "5" a folder, "x" a pax header. */
  readonly type?: string
  readonly linkname?: string
  /** Instead of the data's own. */
  readonly sizeBytes?: number
}

/** POSIX.1-2017, pax, "ustar Interchange Format". */
export function tar(files: readonly TarFile[]): Buffer {
  return Buffer.concat([...files.flatMap(tarBlocks), Buffer.alloc(1024)])
}

export function tarBlocks({ name, data = '', type = '0', linkname = '', sizeBytes }: TarFile): Buffer[] {
  const body = Buffer.from(data)
  const header = Buffer.alloc(512)
  header.write(name, 0, 100)
  header.write('0000644\0', 100)
  header.write('0000000\0', 108)
  header.write('0000000\0', 116)
  header.write(`${(sizeBytes ?? body.length).toString(8).padStart(11, '0')}\0`, 124)
  header.write('00000000000\0', 136)
  header.write('        ', 148)
  header.write(type, 156)
  header.write(linkname, 157, 100)
  header.write('ustar\x0000', 257, 'latin1')
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return [header, body, Buffer.alloc((512 - (body.length % 512)) % 512)]
}

export interface ZipFile {
  readonly name: string | Buffer
  readonly data?: Buffer | string
  readonly method?: 'stored' | 'deflated'
  /** Another name in the local header. */
  readonly localName?: string
  /** Instead of the data's own, in the central directory. */
  readonly sizeBytes?: number
  /** The upper half of the external attributes. */
  readonly unixMode?: number
  readonly flags?: number
  /** Takes the bytes of the file with this index instead of its own. */
  readonly sharesWith?: number
}

/** APPNOTE.TXT 6.3.10, section 4.3. */
export function zip(files: readonly ZipFile[]): Buffer {
  const parts: Buffer[] = []
  const central: Buffer[] = []
  const offsets: number[] = []
  let offset = 0
  for (const file of files) {
    const { method = 'stored', unixMode = 0o100644, flags = 0x800, sharesWith } = file
    const source = (sharesWith === undefined ? file : files[sharesWith]) ?? file
    const data = Buffer.from(source.data ?? '')
    const packed = method === 'deflated' ? deflateRawSync(data) : data
    const name = Buffer.from(file.name)
    const fields = Buffer.alloc(26)
    fields.writeUInt16LE(20, 0)
    fields.writeUInt16LE(flags, 2)
    fields.writeUInt16LE(method === 'deflated' ? 8 : 0, 4)
    fields.writeUInt32LE(crc32(data), 10)
    fields.writeUInt32LE(packed.length, 14)
    fields.writeUInt32LE(file.sizeBytes ?? data.length, 18)
    fields.writeUInt16LE(name.length, 22)
    const start = sharesWith === undefined ? offset : (offsets[sharesWith] ?? 0)
    offsets.push(start)
    if (sharesWith === undefined) {
      const localName = Buffer.from(file.localName ?? name)
      const local = Buffer.from(fields)
      local.writeUInt16LE(localName.length, 22)
      const written = [Buffer.from('504b0304', 'hex'), local, localName, packed]
      parts.push(...written)
      offset += written.reduce((total, { length }) => total + length, 0)
    }
    const rest = Buffer.alloc(14)
    rest.writeUInt32LE((unixMode << 16) >>> 0, 6)
    rest.writeUInt32LE(start, 10)
    central.push(Buffer.from('504b0102', 'hex'), Buffer.from([20, 3]), fields, rest, name)
  }
  const directory = Buffer.concat(central)
  const end = Buffer.alloc(22)
  end.write('504b0506', 'hex')
  end.writeUInt16LE(files.length, 8)
  end.writeUInt16LE(files.length, 10)
  end.writeUInt32LE(directory.length, 12)
  end.writeUInt32LE(offset, 16)
  return Buffer.concat([...parts, directory, end])
}
