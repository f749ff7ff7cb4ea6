/** What the studio's views are put together from: heads, chips, figures, and questions before something is gone. */
import { useSignal, type ReadonlySignal } from '@preact/signals'
import type { ComponentChildren, JSX } from 'preact'
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks'
import { Button } from '../shared/button.tsx'
import { Dialog } from '../shared/dialog.tsx'
import { Icon, type IconName } from '../shared/icons.tsx'
import { Notice } from '../shared/notice.tsx'
import { hrefOf, type Route } from './route.ts'
import type { Action, Resource } from './resource.ts'

export interface ViewHeadProps {
  readonly title: string
  readonly up?: { readonly name: string; readonly to: Route }
  readonly about?: ComponentChildren
  /** Beside the title: how it stands. */
  readonly mark?: ComponentChildren
  readonly children?: ComponentChildren
}

/** The head of a view takes the focus when its view is come to, so that a screen reader says where we are. */
export function ViewHead({ title, up, about, mark, children }: ViewHeadProps): JSX.Element {
  const heading = useRef<HTMLHeadingElement>(null)
  useEffect(() => {
    document.title = `${title} · Studio · Atelier`
  }, [title])
  // Before anybody can have moved the focus on.
  useLayoutEffect(() => {
    if (hasMoved) heading.current?.focus({ preventScroll: true })
    hasMoved = true
  }, [])
  return (
    <header class="view-head">
      <div class="view-head__words">
        {up && (
          <a class="view-head__up" href={hrefOf(up.to)}>
            <Icon name="previous" size={14} />
            {up.name}
          </a>
        )}
        <div class="view-head__line">
          <h1 ref={heading} tabIndex={-1}>
            {title}
          </h1>
          {mark}
        </div>
        {about !== undefined && <p class="view-head__about">{about}</p>}
      </div>
      {children !== undefined && <div class="view-head__actions">{children}</div>}
    </header>
  )
}

let hasMoved = false

export type Tone = 'good' | 'warn' | 'bad' | 'accent' | 'none'

export function Chip({
  tone = 'none',
  children,
}: {
  readonly tone?: Tone
  readonly children: ComponentChildren
}): JSX.Element {
  return (
    <span class="chip" data-tone={tone}>
      {children}
    </span>
  )
}

export interface FigureProps {
  readonly name: string
  readonly value: ComponentChildren
  readonly note?: ComponentChildren
}

export function Figures({ of }: { readonly of: readonly FigureProps[] }): JSX.Element {
  return (
    <dl class="figures">
      {of.map(({ name, value, note }) => (
        <div key={name} class="figures__one">
          <dt>{name}</dt>
          <dd>
            {value}
            {note !== undefined && <small>{note}</small>}
          </dd>
        </div>
      ))}
    </dl>
  )
}

export function Panel({
  title,
  aside,
  children,
}: {
  readonly title: string
  readonly aside?: ComponentChildren
  readonly children: ComponentChildren
}): JSX.Element {
  return (
    <section class="panel" aria-label={title}>
      <div class="panel__head">
        <h2>{title}</h2>
        {aside}
      </div>
      {children}
    </section>
  )
}

export function Empty({
  icon,
  title,
  children,
}: {
  readonly icon: IconName
  readonly title: string
  readonly children: ComponentChildren
}): JSX.Element {
  return (
    <div class="empty empty--framed">
      <Icon name={icon} size={24} />
      <h2>{title}</h2>
      {children}
    </div>
  )
}

/** What was asked for, its problem, or a place kept for it. */
export function Loaded<T>({
  of,
  children,
}: {
  readonly of: Resource<T>
  readonly children: (value: T) => ComponentChildren
}): JSX.Element {
  return (
    <>
      {of.problem.value && <Notice problem={of.problem.value} onRetry={of.reload} />}
      {of.value.value === undefined
        ? !of.problem.value && <div class="loading" aria-busy="true" />
        : children(of.value.value)}
    </>
  )
}

export function ActionNotice({
  of,
}: {
  readonly of: Pick<Action, 'problem' | 'dismiss'>
}): JSX.Element | null {
  return of.problem.value ? <Notice problem={of.problem.value} onDismiss={of.dismiss} /> : null
}

export interface QuestionProps {
  /** On the button that asks, and on that which does it. */
  readonly name: string
  readonly icon?: IconName
  readonly title: string
  readonly children: ComponentChildren
  readonly isBusy: ReadonlySignal<boolean>
  readonly onYes: () => void
  readonly size?: 's' | 'm'
}

/** A button for what cannot be taken back, which asks first. */
export function Question({
  name,
  icon,
  title,
  children,
  isBusy,
  onYes,
  size = 'm',
}: QuestionProps): JSX.Element {
  const isOpen = useSignal(false)
  const close = () => (isOpen.value = false)
  return (
    <>
      <Button
        kind="danger"
        size={size}
        {...(icon && { icon })}
        disabled={isBusy.value}
        onClick={() => (isOpen.value = true)}
      >
        {name}
      </Button>
      <Dialog title={title} open={isOpen.value} onClose={close}>
        <p>{children}</p>
        <div class="dialog__actions">
          <Button onClick={close}>Keep it</Button>
          <Button
            kind="danger"
            onClick={() => {
              close()
              onYes()
            }}
          >
            {name}
          </Button>
        </div>
      </Dialog>
    </>
  )
}
