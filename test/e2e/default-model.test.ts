/** What `npm start` serves when nothing is configured. */
import sharp from 'sharp'
import { expect, test } from 'vitest'
import { colourDistance, oklab, type Oklab } from '../../src/evaluation/oklab.ts'
import { createAtelier } from '../../src/sdk/index.ts'
import { startServer, temporaryFolder } from './server.ts'

const backgrounds = [
  ['white', oklab(255, 255, 255)],
  ['dark blue', oklab(0x12, 0x32, 0x6e)],
  ['green', oklab(0x4c, 0xaf, 0x50)],
] as const

async function cornerOf(file: Buffer): Promise<Oklab> {
  const corner = await sharp(file).extract({ left: 0, top: 0, width: 5, height: 5 }).stats()
  const [red = 0, green = 0, blue = 0] = corner.channels.map(({ mean }) => Math.round(mean))
  return oklab(red, green, blue)
}

test('the default model draws on the background that is asked for, at its own size', async () => {
  await using folder = await temporaryFolder()
  const server = await startServer({ dataDir: folder.path, environment: { ATELIER_MODEL: 'emoji' } })
  try {
    const atelier = createAtelier({ baseUrl: server.url })
    const taken: string[] = []
    for (const [name] of backgrounds) {
      const prompt = `a grinning face in fluent style on a ${name} background`
      const { data } = await atelier.images.generate({ prompt, n: 3, seed: 1, response_format: 'b64_json' })
      for (const { b64_json: content } of data) {
        const file = Buffer.from(content!, 'base64')
        const { width, height } = await sharp(file).metadata()
        expect([width, height]).toEqual([64, 64])
        const corner = await cornerOf(file)
        const distances = backgrounds.map(([, colour]) => colourDistance(corner, colour))
        taken.push(backgrounds[distances.indexOf(Math.min(...distances))]![0])
      }
    }
    const asked = backgrounds.flatMap(([name]) => [name, name, name])
    const right = taken.filter((name, index) => name === asked[index])
    expect(right.length).toBeGreaterThanOrEqual(8)
  } finally {
    await server.stop()
  }
})
