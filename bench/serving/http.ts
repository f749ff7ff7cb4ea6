/** The whole path: requests to a listening server, from the POST to the last byte of the picture. */
import type { ImageRequest } from '../../src/engine/pool.ts'
import type { SchemaGeneratedImages } from '../../src/sdk/schema.ts'
import { arrive, type Engine, type Play } from './engines.ts'

/** Every request is sent when it comes. */
export const overHttp = (address: string): Engine => ({
  name: 'continuous',
  play: async (requests, arrivalsMs) =>
    record(requests, arrivalsMs, async (request) => generate(address, request)),
})

/** The same server, but a client in front of it that holds requests back until the one before has ended. */
export const oneAtATimeOverHttp = (address: string): Engine => ({
  name: 'one at a time',
  async play(requests, arrivalsMs) {
    let last: Promise<void> = Promise.resolve()
    return record(requests, arrivalsMs, async (request) => {
      last = last.then(async () => generate(address, request))
      return last
    })
  },
})

async function record(
  requests: readonly ImageRequest[],
  arrivalsMs: readonly number[],
  send: (request: ImageRequest) => Promise<void>,
): Promise<Play> {
  const startMs = performance.now()
  const doneMs = new Map<string, number>()
  const sent: Promise<void>[] = []
  await arrive(requests, arrivalsMs, startMs, (request) => {
    sent.push(send(request).then(() => void doneMs.set(request.id, performance.now())))
  })
  await Promise.all(sent)
  return {
    latenciesMs: requests.map(({ id }, index) => doneMs.get(id)! - startMs - arrivalsMs[index]!),
    elapsedMs: Math.max(...doneMs.values()) - startMs - Math.min(...arrivalsMs),
  }
}

async function generate(address: string, request: ImageRequest): Promise<void> {
  const { prompt, width, height, steps, seed, guidanceScale } = request
  const body = {
    prompt,
    size: `${width}x${height}`,
    steps,
    seed,
    guidance_scale: guidanceScale,
    output_format: 'webp',
    output_compression: 80,
  }
  const { data } = (await json(`${address}/v1/images/generations`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })) as SchemaGeneratedImages
  const response = await fetch(data[0]!.url!)
  await response.bytes()
  if (!response.ok) throw new Error(`the picture of ${request.id}: ${response.status}`)
}

async function json(url: string, init: RequestInit): Promise<unknown> {
  const response = await fetch(url, init)
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`)
  return response.json()
}
