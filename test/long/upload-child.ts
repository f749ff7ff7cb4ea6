/** Uploads a tar of one picture and much noise, of which it never holds much; prints the answer. Arguments: address, MiB. */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { request } from 'node:http'
import { text } from 'node:stream/consumers'
import { tarBlocks } from '../datasets/archives.ts'
import { picture } from '../datasets/pictures.ts'

const [address = '', mebibytes = '0'] = process.argv.slice(2)
const fileBytes = 4 * 2 ** 20
const pieceBytes = 64 * 1024

async function* archive(): AsyncGenerator<Buffer> {
  yield* tarBlocks({ name: 'good.png', data: await picture(1) })
  for (let file = 0; file * fileBytes < Number(mebibytes) * 2 ** 20; file++) {
    const [header] = tarBlocks({ name: `${file}.png`, sizeBytes: fileBytes })
    if (header) yield header
    for (let bytes = 0; bytes < fileBytes; bytes += pieceBytes) yield randomBytes(pieceBytes)
  }
  yield Buffer.alloc(1024)
}

const { hostname, port } = new URL(address)
const path = '/v1/datasets?name=large'
const headers = { 'content-type': 'application/x-tar' }
const answered = Promise.withResolvers<string>()
const outgoing = request({ hostname, port, path, method: 'POST', headers }, (incoming) =>
  answered.resolve(text(incoming)),
)
outgoing.on('error', answered.reject)
for await (const piece of archive()) {
  if (!outgoing.write(piece)) await once(outgoing, 'drain')
}
outgoing.end()
console.log(await answered.promise)
