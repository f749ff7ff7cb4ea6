/** Shares of seconds as bars: serving on the ground, training on top of it. */

export interface Shares {
  /** Of each second, the oldest first. */
  readonly serving: readonly number[]
  readonly training: readonly number[]
  /** How many seconds a bar stands for; the oldest may stand for fewer. */
  readonly barSeconds: number
}

export interface Bars {
  /** In bars; the height is 1. */
  readonly width: number
  /** As paths of an SVG, whose ground is at 1. */
  readonly serving: string
  readonly training: string
}

/** Part of a bar that is left free beside it. */
const gap = 0.2

export function stackedBars({ serving, training, barSeconds }: Shares): Bars {
  const [served, trained] = [means(serving, barSeconds), means(training, barSeconds)]
  return {
    width: served.length,
    serving: served.map((share, index) => bar(index, 1, share)).join(''),
    training: trained.map((share, index) => bar(index, 1 - (served[index] ?? 0), share)).join(''),
  }
}

function bar(index: number, ground: number, share: number): string {
  if (share === 0) return ''
  const top = rounded(Math.max(0, ground - share))
  return `M${index} ${rounded(ground)}V${top}h${1 - gap}V${rounded(ground)}z`
}

function means(shares: readonly number[], barSeconds: number): number[] {
  const bars = Math.ceil(shares.length / barSeconds)
  return Array.from({ length: bars }, (_, index) => {
    const end = shares.length - (bars - 1 - index) * barSeconds
    const within = shares.slice(Math.max(0, end - barSeconds), end)
    return within.reduce((sum, share) => sum + share, 0) / within.length
  })
}

const rounded = (value: number): number => Math.round(value * 1000) / 1000
