/**
 * Concept density of captions, measured as the paper measures it (arXiv 2310.00426, section 2.4 and table 1): how many different nouns
 * there are, how many of those are said often enough to be learnt, and how many nouns an image's caption has.
 */
import nlp from 'compromise/two'

export interface ConceptDensity {
  readonly captions: number
  /** Of all captions, each as often as it is said. */
  readonly nouns: number
  readonly distinctNouns: number
  /** Distinct nouns that are said more than ten times: the paper's "valid" ones. */
  readonly validNouns: number
  /** validNouns / distinctNouns: the paper's VN/DN. */
  readonly validShare: number
  readonly nounsPerCaption: number
}

/** A noun is valid when it is said more often than this. */
const rare = 10

/** @param captions one an image, as the paper counts them */
export function conceptDensity(captions: readonly string[]): ConceptDensity {
  const counts = new Map<string, number>()
  let nouns = 0
  for (const caption of captions)
    for (const noun of nounsOf(caption)) {
      counts.set(noun, (counts.get(noun) ?? 0) + 1)
      nouns++
    }
  const validNouns = [...counts.values()].filter((count) => count > rare).length
  return {
    captions: captions.length,
    nouns,
    distinctNouns: counts.size,
    validNouns,
    validShare: validNouns / counts.size,
    nounsPerCaption: nouns / captions.length,
  }
}

/** Common and proper nouns, word by word, without pronouns, as compromise's tagger finds them. */
export const nounsOf = (caption: string): readonly string[] =>
  nlp(caption)
    .match('#Noun')
    .not('#Pronoun')
    .terms()
    .json({ normal: true })
    .flatMap(({ terms }: { terms: readonly { normal: string }[] }) => terms.map(({ normal }) => normal))
