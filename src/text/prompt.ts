/** What happens to a prompt before it is cut into tokens. */
import { cleanCaption } from './clean-caption.ts'
import { lower, strip } from './python-text.ts'

/**
 * diffusers' PixArtAlphaPipeline._text_preprocessing: lower case and stripped, or with `cleanCaption` cleaned, twice.
 */
export function preparePrompt(text: string, options: { readonly cleanCaption: boolean }): string {
  return options.cleanCaption ? cleanCaption(cleanCaption(text)) : strip(lower(text))
}
