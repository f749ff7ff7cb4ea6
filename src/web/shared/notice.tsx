/** A problem where it happened: what it is, what helps, and a button that does it, once it may help. */
import { useSignal } from '@preact/signals'
import type { ComponentChildren, JSX } from 'preact'
import { useEffect } from 'preact/hooks'
import { Button, IconButton } from './button.tsx'
import { Icon } from './icons.tsx'
import type { Problem } from './problem.ts'
import { askForKey } from './session.ts'

export interface NoticeProps {
  readonly problem: Problem
  readonly onRetry?: (() => void) | undefined
  readonly onDismiss?: (() => void) | undefined
  readonly children?: ComponentChildren
}

export function Notice({ problem, onRetry, onDismiss, children }: NoticeProps): JSX.Element {
  const { title, advice, remedy, retryAt, requestId } = problem
  const seconds = useSecondsUntil(retryAt)
  return (
    <div class="notice" role="alert" data-tone={remedy === 'try again' ? 'warn' : 'bad'}>
      <Icon name="warning" />
      <div>
        <p class="notice__title">{title}</p>
        <p class="notice__advice">{advice}</p>
        {requestId !== undefined && (
          <p class="notice__id">
            Request <code>{requestId}</code>
          </p>
        )}
        {children}
      </div>
      <div class="notice__actions">
        {remedy === 'enter a key' && (
          <Button size="s" icon="key" onClick={askForKey}>
            Enter a key
          </Button>
        )}
        {remedy === 'try again' && onRetry && (
          <Button size="s" icon="refresh" disabled={seconds > 0} onClick={onRetry}>
            {seconds > 0 ? `Try again in ${seconds} s` : 'Try again'}
          </Button>
        )}
        {onDismiss && <IconButton label="Dismiss" icon="close" size="s" onClick={onDismiss} />}
      </div>
    </div>
  )
}

function useSecondsUntil(time: number | undefined): number {
  const seconds = useSignal(0)
  useEffect(() => {
    const count = () => {
      seconds.value = time === undefined ? 0 : Math.max(0, Math.ceil((time - Date.now()) / 1000))
    }
    count()
    if (time === undefined) return
    const timer = setInterval(count, 250)
    return () => clearInterval(timer)
  }, [time])
  return seconds.value
}
