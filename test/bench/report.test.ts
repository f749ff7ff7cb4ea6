import { expect, test } from 'vitest'
import { formatReport, summarise, verdict, type Report } from '../../bench/report.ts'

const report: Report = {
  method: ['How it was measured.'],
  figures: [
    { name: 'total', unit: 'ms', values: [1200, 1000.04, 1100] },
    { name: 'share', unit: '%', values: [2, 4] },
  ],
  requirement: { figure: 'share', atMost: 3 },
}

test('a summary is the median and the extremes, of an even number of values the mean of the middle two', () => {
  expect(summarise([5, 1, 3])).toEqual({ median: 3, min: 1, max: 5 })
  expect(summarise([4, 1, 2, 10])).toEqual({ median: 3, min: 1, max: 10 })
  expect(() => summarise([])).toThrow(RangeError)
})

test('a requirement is held against the median of its figure', () => {
  expect(verdict(report)).toEqual({ met: true, text: 'share: 3.00 %, wanted at most 3 %: met' })
  expect(verdict({ ...report, requirement: { figure: 'share', atMost: 2.9 } })?.met).toBe(false)
  const { requirement: _, ...without } = report
  expect(verdict(without)).toBeUndefined()
})

test('people get a table with one line a figure', () => {
  expect(formatReport(report).split('\n')).toEqual([
    'How it was measured.',
    '',
    '       median     min     max',
    'total  1100.0  1000.0  1200.0  ms',
    'share    3.00    2.00    4.00  %',
    '',
    'share: 3.00 %, wanted at most 3 %: met',
  ])
})
