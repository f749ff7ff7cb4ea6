/** As much English grammar as captions need: articles, plurals, and which names are not counted as things. */

/** How a name stands in a sentence. */
export type Grammar =
  /** "a red apple", "two red apples" */
  | 'counted'
  /** Plural, mass and proper names: "grapes", "fire", "Santa Claus". */
  | 'bare'
  /** Names of gestures, states and signs: "a thumbs up emoji". */
  | 'titled'

const bare = new Set(
  `two hearts; revolving hearts; sweat droplets; eyes; lungs; folded hands; clapping hands; raising hands; heart hands;
  open hands; palms up together; crossed fingers; pinched fingers; Santa Claus; Mrs. Claus; Mx Claus; people with bunny ears;
  people wrestling; people hugging; footprints; busts in silhouette; paw prints; coral; grapes; cherries; blueberries;
  peanuts; beans; pancakes; bacon; french fries; popcorn; butter; salt; canned food; meat on bone; cooked rice; curry rice; oden;
  sushi; spaghetti; shaved ice; soft ice cream; ice cream; candy; custard; sake; clinking beer mugs; clinking glasses;
  pouring liquid; mate; bubble tea; ice; chopsticks; fork and knife with plate; fork and knife; broccoli; garlic; ginger root;
  bread; baguette bread; fondue; falafel; tennis; badminton; lacrosse; ping pong; bowling; field hockey; ice hockey; houses; hot springs;
  wood; fog; fire; fireworks; sparkles; Japanese dolls; skis; nesting dolls; flower playing cards; thread; yarn; glasses;
  sunglasses; goggles; jeans; gloves; socks; briefs; shorts; woman's clothes; shopping bags; ballet shoes; prayer beads;
  lipstick; musical notes; control knobs; maracas; film frames; books; bookmark tabs; money with wings; linked paperclips;
  scissors; card index dividers; crossed swords; chains; bubbles; soap; admission tickets; mount fuji; Tokyo tower;
  building construction; clockwise vertical arrows; skull and crossbones; hammer and pick; hammer and wrench; horse racing;
  bow and arrow; nut and bolt; couch and lamp; star and crescent; dna; antenna bars; water; nail polish; beach with umbrella;
  potable water; non-potable water; left luggage; luggage`
    .split(';')
    .map((name) => name.trim().replaceAll(/\s+/g, ' ')),
)
const titled = new Set(
  `rolling on the floor laughing; star-struck; hundred points; dizzy; dashing away; ZZZ; collision; thumbs up; thumbs down;
  backhand index pointing left; backhand index pointing right; backhand index pointing up; backhand index pointing down;
  index pointing up; index pointing at the viewer; breast-feeding; cooking; camping; wedding; foggy; night with stars; milky way;
  sunrise over mountains; cityscape at dusk; construction; hourglass done; hourglass not done; airplane departure;
  airplane arrival; high voltage; performing arts; speaker low volume; speaker medium volume; speaker high volume;
  magnifying glass tilted left; magnifying glass tilted right; page facing up; chart increasing; chart decreasing;
  chart increasing with yen; locked; unlocked; locked with pen; locked with key; passport control; customs; baggage claim;
  warning; children crossing; no entry; prohibited; no bicycles; no smoking; no littering; no pedestrians; no mobile phones;
  no one under eighteen; radioactive; biohazard; om; yin yang; khanda; cinema; wireless; vibration mode; mobile phone off;
  multiply; plus; minus; divide; infinity; currency exchange; copyright; registered; trade mark; information; women's room;
  men's room; restroom; person standing; exploding head; link; movie; leaf fluttering in wind; water closet; place of worship;
  map of Japan; Statue of Liberty; kaaba; moon viewing ceremony; pick; part alternation mark; fleur-de-lis; selfie; cricket game;
  biting lip; fish cake with swirl; martial arts uniform; flag in hole`
    .split(';')
    .map((name) => name.trim().replaceAll(/\s+/g, ' ')),
)

/** @param kind of emojibase's subgroups */
export function grammarOf(name: string, kind: string): Grammar {
  if (bare.has(name)) return 'bare'
  if (titled.has(name) || kind === 'zodiac' || kind === 'alphanum' || name.startsWith('head shaking'))
    return name.endsWith('button') ? 'counted' : 'titled'
  return 'counted'
}

/** Numbers, letters and words whose first letter misleads. */
const likeConsonants = /^(?:uni|use|ewe|one\b|one-|euro|1)/i
const likeVowels = /^(?:hour|x-ray|honest|8|11|18|(?:NG|SOS|ID|ATM|ABC)\b)/i

export const withArticle = (phrase: string): string =>
  `${likeVowels.test(phrase) || (/^[aeiou]/i.test(phrase) && !likeConsonants.test(phrase)) ? 'an' : 'a'} ${phrase}`

/** Where a name goes on about its first part: "face | with tears of joy", "person | juggling". */
const tail =
  / (?:with|without|of|in|on|at|behind|holding|showing|over|pointed|curving) |(?<=^(?:person|man|woman|face|people)) .*/
const irregular: Readonly<Record<string, string>> = {
  man: 'men',
  snowman: 'snowmen',
  woman: 'women',
  person: 'people',
  child: 'children',
  mouse: 'mice',
  foot: 'feet',
  tooth: 'teeth',
  goose: 'geese',
  ox: 'oxen',
  fish: 'fish',
  blowfish: 'blowfish',
  jellyfish: 'jellyfish',
  biceps: 'biceps',
  deer: 'deer',
  bison: 'bison',
  moose: 'moose',
  shrimp: 'shrimp',
  squid: 'squid',
  leaf: 'leaves',
  knife: 'knives',
  wolf: 'wolves',
  elf: 'elves',
  scarf: 'scarves',
  potato: 'potatoes',
  tomato: 'tomatoes',
  mango: 'mangoes',
  volcano: 'volcanoes',
  tornado: 'tornadoes',
  mosquito: 'mosquitoes',
  superhero: 'superheroes',
  cactus: 'cacti',
  die: 'dice',
  merperson: 'merpeople',
}

/** @param name of something counted: "face with tears of joy" becomes "faces with tears of joy" */
export function plural(name: string): string {
  const start = name.endsWith('sign') ? name.length : (tail.exec(name)?.index ?? name.length)
  const [head, rest] = [name.slice(0, start), name.slice(start)]
  const word = /[^ -]+$/.exec(head)?.[0] ?? head
  return head.slice(0, head.length - word.length) + pluralWord(word) + rest
}

function pluralWord(word: string): string {
  const known = irregular[word.toLowerCase()]
  if (known) return known
  if (/[^aeiou]y$/.test(word)) return `${word.slice(0, -1)}ies`
  if (/(?:s|x|z|ch|sh)$/.test(word)) return `${word}es`
  return `${word}s`
}

const numbers = ['no', 'one', 'two', 'three', 'four', 'five', 'six']
export const numberWord = (count: number): string => numbers[count] ?? String(count)

/** "red, brown and green" */
export const listed = (words: readonly string[]): string =>
  words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`
