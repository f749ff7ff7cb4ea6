/** What the Prefer and Accept headers mean. */
import { expect, test } from 'vitest'
import { accepts } from '../../src/http/accept.ts'
import { readWait } from '../../src/http/prefer.ts'

test.each<[string | string[] | undefined, number | undefined]>([
  [undefined, undefined],
  ['', undefined],
  ['wait=10', 10],
  ['Wait = "10"', 10],
  ['wait=0', 0],
  ['wait=601', 600],
  ['respond-async, wait=7', 7],
  ['wait=7;strict, handling=lenient', 7],
  [['handling=lenient', 'wait=5'], 5],
  ['wait=5, wait=9', 5],
  ['foo="a, wait=3", wait=4', 4],
  ['wait', undefined],
  ['wait=soon', undefined],
  ['wait=-1', undefined],
  ['await=5', undefined],
])('Prefer %j waits for %j seconds', (prefer, seconds) => {
  expect(readWait(prefer)).toBe(seconds)
})

test.each<[string | undefined, boolean]>([
  [undefined, true],
  ['', true],
  ['text/event-stream', true],
  ['Text/Event-Stream; charset=utf-8', true],
  ['text/*', true],
  ['application/json, */*;q=0.1', true],
  ['application/json', false],
  ['text/event-stream;q=0', false],
  ['text/event-stream;q=0, */*', false],
  ['text/*;q=0, text/event-stream', true],
])('Accept %j has room for events: %j', (accept, expected) => {
  expect(accepts(accept, 'text/event-stream')).toBe(expected)
})
