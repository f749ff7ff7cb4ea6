/** One form for all the ways to write a word so that people read it and programs do not. */
import { latinOf } from './look-alikes.ts'

/** Zero-width characters, soft hyphens, directions, variation selectors. */
const unseen = /[\p{Default_Ignorable_Code_Point}\p{Cf}]/gu

/** Marks that letters of several scripts share: accents and strokes, not the vowels of Indic scripts, nor what tells か from が. */
const diacritics = /[[\p{Script=Inherited}&&\p{M}]--[\u3099\u309A]]/gv

/**
 * Without case, diacritics, compatibility forms and what cannot be seen; look-alike letters are the Latin ones. Digits and signs that
 * stand for letters stay: what they are read as depends on the word.
 */
export function normalise(text: string): string {
  const plain = text
    .replace(unseen, '')
    .normalize('NFKD')
    .replace(diacritics, '')
    .replace(unseen, '') // compatibility forms can hold some
    .toUpperCase() // where one letter has several small ones, such as ı and i
    .toLowerCase()
  return Array.from(plain, latinOf).join('').normalize('NFKC')
}
