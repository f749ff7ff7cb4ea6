/** Cuts normalised text into the pieces of the most probable segmentation. */
import type { SentencePieceModel } from './sentencepiece.ts'

/** How much worse an unknown character is than the worst piece, in log probability. */
const unknownPenalty = 10

const utf8Length = (text: string) => new TextEncoder().encode(text).length

/**
 * The Viterbi search of Kudo 2018 (arXiv 1804.10959, section 3.2), with the arithmetic of SentencePiece 0.1.97's
 * `unigram::Model::EncodeOptimized`: sums in double, kept as float32, the first of equal paths wins. A run of unknown
 * characters is one unknown token.
 *
 * @returns maps normalised text to token ids
 */
export function createUnigramEncoder({ pieces }: SentencePieceModel): (text: string) => number[] {
  const normalScores = pieces.filter(({ kind }) => kind === 'normal').map(({ score }) => Math.fround(score))
  const least = normalScores.reduce((a, b) => Math.min(a, b), Infinity)
  const most = normalScores.reduce((a, b) => Math.max(a, b), -Infinity)
  const unknownScore = Math.fround(least - unknownPenalty)
  const unknownId = pieces.findIndex(({ kind }) => kind === 'unknown')

  const ids = new Map<string, number>()
  const scores = new Float64Array(pieces.length)
  let longest = 0
  pieces.forEach(({ text, score, kind }, id) => {
    if (kind !== 'normal' && kind !== 'user-defined') return
    ids.set(text, id)
    // User-defined pieces win over any other way to cut the same text.
    scores[id] = kind === 'user-defined' ? Math.fround(utf8Length(text) * most) - 0.1 : Math.fround(score)
    longest = Math.max(longest, text.length)
  })

  return (text) => {
    // Positions are UTF-16 units; only those where a character starts are ever reached.
    const best = {
      id: new Int32Array(text.length + 1),
      score: new Float32Array(text.length + 1),
      start: new Int32Array(text.length + 1),
      reached: new Uint8Array(text.length + 1),
    }
    const offer = (start: number, end: number, id: number, score: number) => {
      if (best.reached[end] === 1 && score <= best.score[end]!) return
      best.id[end] = id
      best.score[end] = score
      best.start[end] = start
      best.reached[end] = 1
    }

    for (let start = 0; start < text.length;) {
      const character = text.codePointAt(start)! > 0xffff ? 2 : 1
      const scoreSoFar = best.score[start]!
      let isCharacterKnown = false
      for (let end = start + character; end <= Math.min(text.length, start + longest); end++) {
        const id = ids.get(text.slice(start, end))
        if (id === undefined) continue
        offer(start, end, id, scores[id]! + scoreSoFar)
        isCharacterKnown ||= end === start + character
      }
      if (!isCharacterKnown)
        offer(start, start + character, unknownId, Math.fround(unknownScore + scoreSoFar))
      start += character
    }

    const backwards: number[] = []
    for (let end = text.length; end > 0; end = best.start[end]!) {
      const id = best.id[end]!
      if (id !== unknownId || backwards.at(-1) !== unknownId) backwards.push(id)
    }
    return backwards.toReversed()
  }
}
