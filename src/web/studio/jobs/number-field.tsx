/** A number that has a default, which shows where nothing is typed. */
import type { JSX } from 'preact'
import { Field } from '../../shared/field.tsx'

export interface NumberFieldProps {
  readonly label: string
  readonly hint?: string
  /** What counts where nothing is typed. */
  readonly fallback?: number | undefined
  readonly placeholder?: string
  /** Offered beside the label. */
  readonly suggestion?: number | undefined
  readonly value: string
  readonly error?: string | undefined
  readonly onChange: (value: string) => void
}

export function NumberField(props: NumberFieldProps): JSX.Element {
  const { label, hint, fallback, placeholder, suggestion, value, error, onChange } = props
  return (
    <Field
      label={label}
      {...(hint !== undefined && { hint })}
      error={error}
      {...(suggestion !== undefined &&
        value !== String(suggestion) && {
          value: (
            <button type="button" class="text-button" onClick={() => onChange(String(suggestion))}>
              use {suggestion}
            </button>
          ),
        })}
    >
      {(control) => (
        <input
          {...control}
          class="input"
          type="number"
          step="any"
          min={0}
          inputMode="decimal"
          placeholder={placeholder ?? (fallback === undefined ? '' : String(fallback))}
          value={value}
          onInput={(event) => onChange(event.currentTarget.value)}
        />
      )}
    </Field>
  )
}
