/** Results as a picture: slowdown by load, and throughput at saturation. */
import { loadText, type Result } from './results.ts'

const colours = ['#1f6f8b', '#d1603d', '#6b6b6b']
const panel = { width: 380, height: 260, left: 60, top: 70, gap: 80 }
const [totalWidth, totalHeight] = [2 * panel.width + 2 * panel.left + panel.gap, panel.height + 140]

/** @param subtitle what was measured on what */
export function plotOf(results: readonly Result[], subtitle: string): string {
  const engines = [...new Set(results.map(({ engine }) => engine))]
  const colourOf = (engine: string) => colours[engines.indexOf(engine) % colours.length]!
  const legend = engines.map((engine, index) =>
    [
      `<rect x="${panel.left + index * 220}" y="${totalHeight - 26}" width="14" height="14" fill="${colourOf(engine)}"/>`,
      text(panel.left + 20 + index * 220, totalHeight - 14, engine),
    ].join(''),
  )
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${totalWidth} ${totalHeight}" font-family="system-ui, sans-serif" font-size="12">`,
    `<rect width="100%" height="100%" fill="white"/>`,
    text(
      panel.left,
      22,
      'Serving pictures: slowdown by load, throughput at saturation',
      'font-weight="bold" font-size="14"',
    ),
    text(panel.left, 40, subtitle, 'fill="#555"'),
    ...slowdowns(
      results.filter(({ load }) => load !== Infinity),
      engines,
      colourOf,
    ),
    ...throughputs(
      results.filter(({ load }) => load === Infinity),
      colourOf,
    ),
    ...legend,
    '</svg>',
    '',
  ].join('\n')
}

/** Lines over the load, on a logarithmic scale: the mean dashed, the 95th percentile solid. */
function slowdowns(
  results: readonly Result[],
  engines: readonly string[],
  colourOf: (engine: string) => string,
): string[] {
  if (results.length === 0) return []
  const { left, top, width, height } = panel
  const loads = [...new Set(results.map(({ load }) => load))]
  const powers = Math.ceil(Math.log10(Math.max(...results.map(({ slowdown }) => slowdown.p95), 10)))
  const x = (load: number) => left + (width * (loads.indexOf(load) + 0.5)) / loads.length
  const y = (slowdown: number) => top + height * (1 - Math.log10(Math.max(slowdown, 1)) / powers)
  const grid = Array.from({ length: powers + 1 }, (_, power) => {
    const at = y(10 ** power)
    return `<path d="M${left} ${at}H${left + width}" stroke="#ddd"/>${text(left - 8, at + 4, `${10 ** power} ×`, 'text-anchor="end"')}`
  })
  const ticks = loads.map((load) => text(x(load), top + height + 18, loadText(load), 'text-anchor="middle"'))
  const lines = engines.flatMap((engine) => {
    const own = results.filter((result) => result.engine === engine)
    return (['p95', 'mean'] as const).map((which) => {
      const points = own.map(({ load, slowdown }) => `${x(load)},${y(slowdown[which]).toFixed(1)}`)
      const dash = which === 'mean' ? ' stroke-dasharray="5 4"' : ''
      return `<polyline points="${points.join(' ')}" fill="none" stroke="${colourOf(engine)}" stroke-width="2"${dash}/>`
    })
  })
  return [
    text(left, top - 10, 'slowdown (p95 solid, mean dashed)'),
    ...grid,
    ...lines,
    ...ticks,
    text(
      left + width / 2,
      top + height + 36,
      'load, as a share of the one-at-a-time capacity',
      'text-anchor="middle"',
    ),
  ]
}

/** One bar an engine, from zero. */
function throughputs(results: readonly Result[], colourOf: (engine: string) => string): string[] {
  if (results.length === 0) return []
  const left = panel.left + panel.width + panel.gap
  const { top, width, height } = panel
  const most = Math.max(...results.map(({ requestsPerSecond }) => requestsPerSecond))
  const slot = width / results.length
  const bars = results.flatMap(({ engine, requestsPerSecond }, index) => {
    const tall = (0.9 * height * requestsPerSecond) / most
    const x = left + slot * (index + 0.2)
    return [
      `<rect x="${x.toFixed(1)}" y="${(top + height - tall).toFixed(1)}" width="${(slot * 0.6).toFixed(1)}" height="${tall.toFixed(1)}" fill="${colourOf(engine)}"/>`,
      text(x + slot * 0.3, top + height - tall - 6, requestsPerSecond.toFixed(2), 'text-anchor="middle"'),
    ]
  })
  return [
    text(left, top - 10, 'requests per second, all there at once'),
    `<path d="M${left} ${top + height}h${width}" stroke="#555"/>`,
    ...bars,
  ]
}

const text = (x: number, y: number, content: string, attributes = ''): string =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${attributes}>${escapeXml(content)}</text>`

const escapeXml = (content: string): string =>
  content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
