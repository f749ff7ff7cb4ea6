/** A control with its label, its value where it does not show it itself, a hint, and what is wrong with it. */
import type { ComponentChildren, JSX } from 'preact'
import { useId } from 'preact/hooks'

export interface FieldProps {
  readonly label: string
  readonly hint?: ComponentChildren
  readonly error?: string | undefined
  /** Beside the label: what a slider stands at, or a button that belongs to the control. */
  readonly value?: ComponentChildren
  readonly children: (control: ControlAttributes) => ComponentChildren
}

/** To be spread on the control, which they tie to its label, hint and error. */
export interface ControlAttributes {
  readonly id: string
  readonly 'aria-describedby': string
  readonly 'aria-invalid'?: 'true'
}

export function Field({ label, hint, error, value, children }: FieldProps): JSX.Element {
  const id = useId()
  const describedBy = `${id}-about`
  return (
    <div class="field">
      <div class="field__head">
        <label class="field__label" for={id}>
          {label}
        </label>
        {value !== undefined && <span class="field__value">{value}</span>}
      </div>
      {children({
        id,
        'aria-describedby': describedBy,
        ...(error !== undefined && { 'aria-invalid': 'true' as const }),
      })}
      <div id={describedBy}>
        {error === undefined ? (
          hint !== undefined && <p class="field__hint">{hint}</p>
        ) : (
          <p class="field__error">{error}</p>
        )}
      </div>
    </div>
  )
}

export interface SegmentsProps<T extends string> {
  readonly label: string
  readonly options: readonly { readonly value: T; readonly name: string }[]
  readonly value: T
  readonly onChange: (value: T) => void
}

/** One of a few, all in sight: radio buttons that look like one control. */
export function Segments<T extends string>({
  label,
  options,
  value,
  onChange,
}: SegmentsProps<T>): JSX.Element {
  const name = useId()
  return (
    <fieldset class="field">
      <legend class="field__label">{label}</legend>
      <div class="segments">
        {options.map((option) => (
          <label key={option.value} class="segments__option">
            <input
              type="radio"
              name={name}
              value={option.value}
              checked={option.value === value}
              onChange={() => onChange(option.value)}
            />
            <span>{option.name}</span>
          </label>
        ))}
      </div>
    </fieldset>
  )
}
