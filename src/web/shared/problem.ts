/** What went wrong, in the words of whoever looks, and what they can do about it. */
import { AtelierError, type AtelierErrorCode } from '../../sdk/index.ts'
import { apiKey } from './session.ts'

export interface Problem {
  readonly title: string
  readonly advice: string
  /** What a button beside it offers; nothing where only waiting or another input helps. */
  readonly remedy: 'enter a key' | 'try again' | undefined
  /** Milliseconds since 1970 from which trying again may help; the service said so. */
  readonly retryAt: number | undefined
  /** Names the request in the service's log. */
  readonly requestId: string | undefined
}

interface Explanation {
  readonly title: string
  /** Where left out, the service's own message. */
  readonly advice?: string
  readonly remedy?: Problem['remedy']
}

const explanations: Partial<Record<AtelierErrorCode, Explanation>> = {
  invalid_api_key: { title: 'Your key is not accepted', remedy: 'enter a key' },
  insufficient_scope: { title: 'Your key may not do this', remedy: 'enter a key' },
  rate_limit_exceeded: { title: 'Too many requests', remedy: 'try again' },
  queue_full: { title: 'The queue is full', remedy: 'try again' },
  in_flight_limit_exceeded: {
    title: 'Too many pictures at once',
    advice: 'Wait until some of yours are done, or cancel one.',
    remedy: 'try again',
  },
  insufficient_quota: { title: 'The pictures of this month are used up' },
  content_policy_violation: { title: 'This service does not draw that' },
  model_not_found: {
    title: 'There is no such model here',
    advice: 'Choose another one; models may have changed.',
  },
  connection_failed: {
    title: 'The service cannot be reached',
    advice: 'Is it running, and are you online? Nothing that it accepted is lost.',
    remedy: 'try again',
  },
  timeout: {
    title: 'The service does not answer',
    advice: 'It may be busy. Nothing that it accepted is lost.',
    remedy: 'try again',
  },
  shutting_down: {
    title: 'The service is restarting',
    advice: 'What was accepted goes on when it is back.',
    remedy: 'try again',
  },
  not_ready: { title: 'The service is starting', advice: 'Give it a moment.', remedy: 'try again' },
  database_unavailable: { title: 'The service has lost its database', remedy: 'try again' },
  internal_error: { title: 'The service made a mistake', remedy: 'try again' },
  generation_failed: { title: 'The picture could not be made', remedy: 'try again' },
  host_not_allowed: { title: 'The service does not know itself by this address' },
  origin_not_allowed: { title: 'The service does not know itself by this address' },
  unexpected_response: {
    title: 'Something else answered',
    advice: 'A proxy or another program sits between this page and the service.',
    remedy: 'try again',
  },
}

const keyNeeded: Explanation = {
  title: 'A key is needed',
  advice:
    'Enter one that an administrator gave you, or make one with: npx atelier key create --name you. It stays in this tab only.',
  remedy: 'enter a key',
}

/** @param now milliseconds since 1970 */
export function explain(thrown: unknown, now = Date.now()): Problem {
  if (!(thrown instanceof AtelierError)) {
    const advice = thrown instanceof Error ? thrown.message : String(thrown)
    return {
      title: 'This page made a mistake',
      advice,
      remedy: 'try again',
      retryAt: undefined,
      requestId: undefined,
    }
  }
  const { code, message, param, requestId, retryAfterMs } = thrown
  const isKeyless = code === 'invalid_api_key' && apiKey.peek() === ''
  const { title, advice, remedy } = (isKeyless ? keyNeeded : explanations[code]) ?? {
    title: param === undefined ? 'The service refused' : `The service refused: ${param}`,
  }
  return {
    title,
    advice: advice ?? sentence(message),
    remedy,
    retryAt: retryAfterMs === undefined ? undefined : now + retryAfterMs,
    requestId,
  }
}

const sentence = (text: string): string =>
  `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`
