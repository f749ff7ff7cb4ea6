/** One chart: every step faintly, the trend over it; it follows its place's width and the theme. */
import { useSignal, useSignalEffect } from '@preact/signals'
import type { JSX } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import uPlot from 'uplot'
import 'uplot/dist/uPlot.min.css'
import { theme } from '../../shared/theme.ts'
import { figure } from '../format.ts'

export interface ChartProps {
  /** For those who do not see it. */
  readonly label: string
  readonly steps: readonly number[]
  readonly values: readonly number[]
  readonly trend: readonly number[] | undefined
  /** The last step there will be. */
  readonly until: number
}

const heightPx = 170

export function Chart({ label, steps, values, trend, until }: ChartProps): JSX.Element {
  const place = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot>(null)
  const isDark = useSignal(prefersDark.matches)
  const dataOf = (): uPlot.AlignedData => [[...steps], [...values], [...(trend ?? values)]]
  useSignalEffect(() => {
    const element = place.current
    if (!element) return
    // Its colours are read once, when it is made.
    void theme.value
    void isDark.value
    const made = new uPlot(optionsFor(element, until), dataOf(), element)
    plot.current = made
    const fitting = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: heightPx }))
    fitting.observe(element)
    return () => {
      fitting.disconnect()
      made.destroy()
    }
  })
  useEffect(() => {
    const follow = () => (isDark.value = prefersDark.matches)
    prefersDark.addEventListener('change', follow)
    return () => prefersDark.removeEventListener('change', follow)
  }, [])
  useEffect(() => plot.current?.setData(dataOf()), [steps.at(-1)])
  // An img has no canvas in it.
  // oxlint-disable-next-line prefer-tag-over-role
  return <div ref={place} class="chart__plot" role="img" aria-label={label} />
}

const prefersDark = matchMedia('(prefers-color-scheme: dark)')

function optionsFor(element: HTMLElement, until: number): uPlot.Options {
  const colour = (name: string) => resolved(element, name)
  const font = `11px ${getComputedStyle(element).fontFamily}`
  const axis = {
    stroke: colour('--ink-faint'),
    font,
    grid: { stroke: colour('--line'), width: 1 },
    ticks: { show: false },
  }
  return {
    width: element.clientWidth,
    height: heightPx,
    padding: [8, 18, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { size: 6 } },
    scales: { x: { time: false, range: (_plot, least) => [Math.min(1, least), Math.max(2, until)] } },
    axes: [
      { ...axis, size: 26, gap: 4, grid: { show: false } },
      { ...axis, size: 52, gap: 6, values: (_plot, splits) => splits.map(figure) },
    ],
    series: [
      { label: 'Step' },
      { label: 'Value', stroke: colour('--chart-faint'), width: 1, points: { show: false } },
      { label: 'Trend', stroke: colour('--accent'), width: 2, points: { show: false } },
    ],
  }
}

/** A canvas knows neither variables nor `light-dark()`. */
function resolved(element: HTMLElement, name: string): string {
  const probe = element.ownerDocument.createElement('span')
  probe.style.color = `var(${name})`
  element.append(probe)
  const { color } = getComputedStyle(probe)
  probe.remove()
  return color
}
