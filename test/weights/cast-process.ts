/** A process of the cast tests: casts one component when told to, and says what it did. */
import { openComponent } from '../../src/weights/checkpoint.ts'
import { tensorsFor, usableFloats } from '../../src/weights/cast.ts'

const [folder = '', cacheDir = ''] = process.argv.slice(2)
const component = await openComponent(folder)

process.once('message', () => {
  void (async () => {
    let casts = 0
    const onCast = () => {
      casts++
      process.send?.({ state: 'casting' })
    }
    const tensors = await tensorsFor(component, usableFloats(['F32'], 'F32'), cacheDir, { onCast })
    process.send?.({ state: 'done', casts, tensors: [...tensors] }, () => process.disconnect())
  })()
})
process.send?.({ state: 'ready' })
