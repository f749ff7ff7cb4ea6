import { expect, test } from 'vitest'
import { formatReport, isMet, summarise, type Report } from '../../bench/report.ts'

const report: Report = {
  method: ['How it was measured.'],
  figures: [
    { name: 'total', unit: 'ms', values: [1200, 1000.04, 1100] },
    { name: 'share', unit: '%', values: [2, 4] },
  ],
  tables: [
    {
      title: 'By load',
      columns: ['load', 'engine', 'p95'],
      rows: [
        ['0.5', 'ours', '1.2'],
        ['0.95', 'others', '10.0'],
      ],
    },
  ],
  requirements: [
    { what: 'share', value: 3, unit: '%', atMost: 3 },
    { what: 'throughput', value: 1.04, unit: '×', atLeast: 1.05 },
  ],
}

test('a summary is the median and the extremes, of an even number of values the mean of the middle two', () => {
  expect(summarise([5, 1, 3])).toEqual({ median: 3, min: 1, max: 5 })
  expect(summarise([4, 1, 2, 10])).toEqual({ median: 3, min: 1, max: 10 })
  expect(() => summarise([])).toThrow(RangeError)
})

test('a requirement is met up to its bound and including it', () => {
  expect(isMet({ what: 'share', value: 3, unit: '%', atMost: 3 })).toBe(true)
  expect(isMet({ what: 'share', value: 3.1, unit: '%', atMost: 3 })).toBe(false)
  expect(isMet({ what: 'throughput', value: 1.05, unit: '×', atLeast: 1.05 })).toBe(true)
  expect(isMet({ what: 'throughput', value: 1.04, unit: '×', atLeast: 1.05 })).toBe(false)
})

test('people get a table with one line a figure, and what became of the requirements', () => {
  expect(formatReport(report).split('\n')).toEqual([
    'How it was measured.',
    '',
    '       median     min     max',
    'total  1100.0  1000.0  1200.0  ms',
    'share    3.00    2.00    4.00  %',
    '',
    'By load',
    'load  engine   p95',
    ' 0.5  ours     1.2',
    '0.95  others  10.0',
    '',
    'share: 3.00 %, wanted at most 3 %: met',
    'throughput: 1.04 ×, wanted at least 1.05 ×: NOT MET',
  ])
})
