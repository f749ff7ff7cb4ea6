/** A server that speaks the hub's routes: revisions, trees in pages, and files that lie on another host, in ranges. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface HubServer extends AsyncDisposable {
  readonly url: string
  /** Every request for a file's bytes, as `PATH RANGE`. */
  readonly asked: string[]
  /** Tokens that came to the host where the files lie, which is none of the hub's. */
  readonly leaked: string[]
}

export interface HubOptions {
  readonly repository: string
  readonly commit: string
  readonly files: ReadonlyMap<string, Buffer>
  /** Without it everybody is let in. */
  readonly token?: string
  /** Bytes after which the connection is cut, by the number of the request; never, where it says nothing. */
  readonly cutAfter?: (path: string, request: number) => number | undefined
  /** Resolves when so many bytes of a file lie where they are kept: a cut must not take away what was sent before it. */
  readonly haveArrived?: (path: string, bytes: number) => Promise<unknown>
  /** What is sent in place of the bytes. */
  readonly replace?: (path: string, bytes: Buffer, request: number) => Buffer
  readonly knowsRanges?: boolean
}

const pageSize = 4
/** Beyond this a file is kept as LFS does, with a checksum of its own. */
const largeBytes = 2_048

export async function startHub(options: HubOptions): Promise<HubServer> {
  const { repository, commit, files, token, cutAfter, haveArrived, replace, knowsRanges = true } = options
  const [asked, leaked] = [[] as string[], [] as string[]]
  const requests = new Map<string, number>()

  const answerJson = (response: ServerResponse, status: number, body: unknown, headers = {}) =>
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body))

  const cdn = await listen((request, response) => {
    const path = decodeURIComponent(new URL(request.url!, 'http://x').pathname.slice(1))
    const { range, authorization } = request.headers
    if (authorization !== undefined) leaked.push(authorization)
    asked.push(`${path} ${range ?? 'all'}`)
    const number = (requests.get(path) ?? 0) + 1
    requests.set(path, number)
    const bytes = replace?.(path, files.get(path)!, number) ?? files.get(path)!
    const from = knowsRanges ? Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1] ?? 0) : 0
    const rest = bytes.subarray(from)
    const part = { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` }
    response.writeHead(from > 0 ? 206 : 200, { 'content-length': rest.length, ...(from > 0 && part) })
    const cut = cutAfter?.(path, number)
    if (cut === undefined) response.end(rest)
    else {
      response.flushHeaders()
      if (cut > 0) response.write(rest.subarray(0, cut))
      void Promise.resolve(haveArrived?.(path, from + cut)).finally(() => response.destroy())
    }
  })

  const hub = await listen((request, response) => {
    if (token !== undefined && request.headers.authorization !== `Bearer ${token}`)
      return answerJson(response, 401, { error: 'Invalid credentials' })
    const { pathname, searchParams } = new URL(request.url!, 'http://x')
    if (pathname === `/api/models/${repository}/revision/main`)
      return answerJson(response, 200, { _id: '1', id: repository, sha: commit, likes: 0, downloads: 0 })
    if (pathname === `/api/models/${repository}/tree/${commit}`) {
      const all = [{ type: 'directory', path: 'vae', size: 0, oid: '0' }, ...[...files].map(describe)]
      const start = Number(searchParams.get('cursor') ?? 0)
      const next = `<${hub.url}${pathname}?recursive=true&expand=false&cursor=${start + pageSize}>; rel="next"`
      const headers = start + pageSize < all.length ? { link: next } : {}
      return answerJson(response, 200, all.slice(start, start + pageSize), headers)
    }
    const path = decodeURIComponent(pathname).slice(`/${repository}/resolve/${commit}/`.length)
    if (decodeURIComponent(pathname) === `/${repository}/resolve/${commit}/${path}` && files.has(path))
      return response.writeHead(302, { location: `${cdn.url}/${encodeURIComponent(path)}` }).end()
    return answerJson(response, 404, { error: 'Repository not found' })
  })
  return {
    url: hub.url,
    asked,
    leaked,
    async [Symbol.asyncDispose]() {
      await Promise.all([hub.close(), cdn.close()])
    },
  }
}

function describe([path, bytes]: readonly [string, Buffer]) {
  const oid = createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex')
  if (bytes.length <= largeBytes) return { type: 'file', path, size: bytes.length, oid }
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  const lfs = { oid: sha256, size: bytes.length, pointerSize: 130 }
  return { type: 'file', path, size: bytes.length, oid: '0'.repeat(40), lfs }
}

async function listen(handle: (request: IncomingMessage, response: ServerResponse) => unknown) {
  const server: Server = createServer(handle)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}
