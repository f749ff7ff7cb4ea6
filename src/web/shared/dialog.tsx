/** A modal dialog: the browser's own, which keeps the focus inside, closes with Escape and gives the focus back. */
import type { ComponentChildren, JSX } from 'preact'
import { useEffect, useId, useRef } from 'preact/hooks'
import { IconButton } from './button.tsx'

export interface DialogProps {
  readonly title: string
  readonly open: boolean
  readonly width?: 'normal' | 'wide'
  readonly onClose: () => void
  readonly children: ComponentChildren
}

export function Dialog({ title, open, width = 'normal', onClose, children }: DialogProps): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null)
  const heading = useId()
  useEffect(() => {
    if (open) dialog.current?.showModal()
    else dialog.current?.close()
  }, [open])
  return (
    // What lies outside is the dialog's own backdrop; the keyboard's way out is Escape.
    // oxlint-disable-next-line click-events-have-key-events, no-noninteractive-element-interactions
    <dialog
      ref={dialog}
      class="dialog"
      data-width={width}
      aria-labelledby={heading}
      onClose={onClose}
      onClick={(event) => {
        if (event.target === dialog.current) onClose()
      }}
    >
      {open && (
        <>
          <div class="dialog__head">
            <h2 id={heading}>{title}</h2>
            <IconButton label="Close" icon="close" size="s" onClick={onClose} />
          </div>
          <div class="dialog__body">{children}</div>
        </>
      )}
    </dialog>
  )
}
