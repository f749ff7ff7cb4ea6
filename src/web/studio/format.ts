/** Figures in words, as short as they can be read. */

const units = ['B', 'KB', 'MB', 'GB', 'TB'] as const

export function bytes(count: number): string {
  const power = count < 1 ? 0 : Math.min(Math.floor(Math.log10(count) / 3), units.length - 1)
  const scaled = count / 1000 ** power
  return `${power === 0 || scaled >= 100 ? Math.round(scaled) : scaled.toFixed(1)} ${units[power]}`
}

export function duration(seconds: number): string {
  if (seconds < 1) return 'under 1 s'
  const whole = Math.round(seconds)
  if (whole < 60) return `${whole} s`
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`
  const minutes = Math.round(seconds / 60)
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
  return `${Math.round(minutes / 60 / 24)} days`
}

/** Whole thousands apart; small numbers with the digits that tell. */
export function figure(value: number): string {
  if (value === 0) return '0'
  const size = Math.abs(value)
  if (size >= 1000) return Math.round(value).toLocaleString('en')
  if (size < 0.001) return value.toExponential(1).replace('.0e', 'e')
  return String(Number(value.toPrecision(3)))
}

export const percent = (share: number): string =>
  share > 0 && share < 0.01 ? 'under 1 %' : `${Math.round(share * 100)} %`

export const plural = (count: number, one: string, many = `${one}s`): string =>
  `${count.toLocaleString('en')} ${count === 1 ? one : many}`

const dateTime = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' })

/** @param time milliseconds since 1970 */
export const at = (time: number): string => dateTime.format(time)

const steps = [
  ['second', 60],
  ['minute', 60],
  ['hour', 24],
  ['day', Infinity],
] as const
const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto' })

/** @param time milliseconds since 1970 */
export function ago(time: number, now = Date.now()): string {
  let passed = Math.min(0, time - now) / 1000
  if (passed > -5) return 'just now'
  for (const [unit, most] of steps) {
    if (-passed < most) return relative.format(Math.round(passed), unit)
    passed /= most
  }
  return at(time)
}
