/** What can be drawn: the emoji that all three sets have, with emojibase's names and tags. */
import groups from 'emojibase-data/meta/groups.json' with { type: 'json' }
import emoji from 'emojibase-data/en/data.json' with { type: 'json' }
import fluent from '@iconify-json/fluent-emoji-flat/chars.json' with { type: 'json' }
import noto from '@iconify-json/noto/chars.json' with { type: 'json' }
import twemoji from '@iconify-json/twemoji/chars.json' with { type: 'json' }

export const styles = ['noto', 'fluent', 'twemoji'] as const
export type Style = (typeof styles)[number]

export interface Item {
  /** Its code points, without variation selectors: "1f34e". */
  readonly id: string
  /** "red apple" */
  readonly name: string
  /** Words for what it is and stands for that its name does not hold: "fruit", "food". */
  readonly tags: readonly string[]
  /** Unicode's group, "food-drink", and subgroup, "food-fruit". */
  readonly group: string
  readonly subgroup: string
  /** Names of its picture in the sets. */
  readonly icons: Readonly<Record<Style, string>>
}

const characters: Readonly<Record<Style, Readonly<Record<string, string>>>> = { noto, fluent, twemoji }
const leftOutGroups = new Set(['component', 'flags'])
/** Differ from another item by direction, by half an hour, or by a size that placing them changes anyway; or are Japanese text. */
const leftOutNames =
  /facing right$|-thirty$|^Japanese “|(?:medium|medium-small|small) square$|^small (?:orange|blue) diamond$/
/** One of several people: the neutral one stands for all. */
const gendered = /^(?:man|woman|men|women)\b:? (.+)$/

export const vocabulary: readonly Item[] = makeVocabulary()

function makeVocabulary(): readonly Item[] {
  const icons = Object.fromEntries(
    styles.map((style) => [
      style,
      new Map(Object.entries(characters[style]).map(([code, icon]) => [withoutSelectors(code), icon])),
    ]),
  ) as Record<Style, Map<string, string>>
  const labels = new Set(emoji.map(({ label }) => label))
  return emoji
    .toSorted((one, other) => (one.order ?? 0) - (other.order ?? 0))
    .flatMap((entry): readonly Item[] => {
      const group = groups.groups[String(entry.group) as keyof typeof groups.groups] as string | undefined
      const subgroup = groups.subgroups[String(entry.subgroup) as keyof typeof groups.subgroups] as
        string | undefined
      if (!group || !subgroup || leftOutGroups.has(group) || leftOutNames.test(entry.label)) return []
      if (hasNeutralTwin(entry.label, labels)) return []
      const id = withoutSelectors(entry.hexcode)
      const found = styles.map((style) => [style, icons[style].get(id)] as const)
      if (found.some(([, icon]) => icon === undefined)) return []
      const name = readable(entry.label)
      return [
        {
          id,
          name,
          tags: usefulTags(entry.tags ?? [], name),
          group,
          subgroup,
          icons: Object.fromEntries(found) as Record<Style, string>,
        },
      ]
    })
}

function withoutSelectors(code: string): string {
  return code
    .toLowerCase()
    .split('-')
    .filter((point) => point !== 'fe0f')
    .join('-')
}

function hasNeutralTwin(label: string, labels: ReadonlySet<string>): boolean {
  const deed = gendered.exec(label)?.[1]
  if (deed === undefined) return ['merman', 'mermaid', 'deaf man', 'deaf woman'].includes(label)
  return [deed, `person ${deed}`, `person: ${deed}`, `people ${deed}`].some((twin) => labels.has(twin))
}

/** "keycap: 1", "person: red hair" and "one o’clock" as the things that are seen. */
function readable(label: string): string {
  return label
    .replace('keycap: #', 'number sign keycap')
    .replace('keycap: *', 'asterisk keycap')
    .replace(/^keycap: (\d+)$/, 'number $1 keycap')
    .replace(/^(\w+): bald$/, 'bald $1')
    .replace(/^(\w+): beard$/, '$1 with a beard')
    .replace(/^(\w+): (\w+ hair)$/, '$1 with $2')
    .replaceAll(/[“”!]/g, '')
    .replaceAll('’', "'")
    .replace(/^(\w+) o'clock$/, "clock at $1 o'clock")
    .replace(/^(black|white) large square$/, '$1 square')
    .replace(/^large (orange|blue) diamond$/, '$1 diamond')
}

/** Words only, and none that the name says already. */
function usefulTags(tags: readonly string[], name: string): readonly string[] {
  const said = new Set(name.toLowerCase().split(/[^a-z0-9]+/))
  return tags.filter(
    (tag) => /^[a-z][a-z -]{2,}$/.test(tag) && !tag.split(/[ -]/).every((word) => said.has(word)),
  )
}

const smallest = 8
/** The only frog is with the reptiles. */
const shelfOf = ({ subgroup }: Item) => (subgroup === 'animal-amphibian' ? 'animal-reptile' : subgroup)
const sizes = Map.groupBy(vocabulary, shelfOf)

/**
 * The class of a picture in the class-conditional stage: the style, and Unicode's subgroup, or its group where the subgroup
 * has fewer than 8 members. Groups alone (eight of them) hold what has nothing in common but a shelf.
 */
export function className(item: Item, style: Style): string {
  const shelf = shelfOf(item)
  return `${style} ${sizes.get(shelf)!.length < smallest ? `other ${item.group}` : shelf}`
}
