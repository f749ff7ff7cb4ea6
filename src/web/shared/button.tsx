/** A button, with or without an icon; one that is only an icon is named by its label, which shows as a tip. */
import type { ButtonHTMLAttributes, ComponentChildren, JSX, Ref } from 'preact'
import { Icon, type IconName } from './icons.tsx'

type Kind = 'primary' | 'plain' | 'quiet' | 'danger'

export interface ButtonProps extends Omit<ButtonHTMLAttributes, 'icon' | 'size' | 'ref' | 'label'> {
  readonly kind?: Kind
  readonly size?: 's' | 'm'
  readonly icon?: IconName
  readonly type?: 'button' | 'submit'
  readonly disabled?: boolean
  readonly children?: ComponentChildren
  readonly buttonRef?: Ref<HTMLButtonElement>
}

export function Button({
  kind = 'plain',
  size = 'm',
  icon,
  type = 'button',
  children,
  buttonRef,
  ...rest
}: ButtonProps): JSX.Element {
  return (
    <button
      {...rest}
      {...(buttonRef && { ref: buttonRef })}
      type={type}
      class="button"
      data-kind={kind}
      data-size={size}
    >
      {icon && <Icon name={icon} />}
      {children}
    </button>
  )
}

export function IconButton({
  label,
  icon,
  ...rest
}: Omit<ButtonProps, 'children'> & { readonly label: string; readonly icon: IconName }): JSX.Element {
  const { kind = 'quiet', size = 'm', type = 'button', buttonRef, ...others } = rest
  return (
    <button
      {...others}
      {...(buttonRef && { ref: buttonRef })}
      type={type}
      class="button"
      data-kind={kind}
      data-size={size}
      data-icon
      aria-label={label}
      title={label}
    >
      <Icon name={icon} />
    </button>
  )
}
