/** What `npm start` serves when nothing is configured. */
import sharp from 'sharp'
import { expect, test } from 'vitest'
import { colourDistance, oklab } from '../../src/evaluation/oklab.ts'
import { createAtelier } from '../../src/sdk/index.ts'
import { startServer, temporaryFolder } from './server.ts'

test('the default model draws on the background that is asked for, at its own size', async () => {
  await using folder = await temporaryFolder()
  const server = await startServer({ dataDir: folder.path, environment: { ATELIER_MODEL: 'emoji' } })
  try {
    const atelier = createAtelier({ baseUrl: server.url })
    const distances: [string, number][] = []
    for (const [name, r, g, b] of [
      ['white', 255, 255, 255],
      ['dark blue', 0x12, 0x32, 0x6e],
    ] as const) {
      const { data } = await atelier.images.generate({
        prompt: `a red apple in fluent style on a ${name} background`,
        seed: 1,
        response_format: 'b64_json',
      })
      const picture = sharp(Buffer.from(data[0]!.b64_json!, 'base64'))
      const { width, height } = await picture.metadata()
      expect([width, height]).toEqual([128, 128])
      const edge = await picture.extract({ left: 0, top: 0, width, height: 6 }).stats()
      const [red = 0, green = 0, blue = 0] = edge.channels.map(({ mean }) => Math.round(mean))
      distances.push([name, colourDistance(oklab(red, green, blue), oklab(r, g, b))])
    }
    expect(distances.filter(([, distance]) => distance >= 0.15)).toEqual([])
  } finally {
    await server.stop()
  }
})
