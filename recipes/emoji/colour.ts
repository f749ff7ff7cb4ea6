/** Names of colours: of backgrounds, and of an object's parts. */
import { colourDistance, oklab, type Oklab, type Rgb } from '../../src/evaluation/oklab.ts'

export interface NamedColour {
  readonly name: string
  readonly rgb: Rgb
  readonly lab: Oklab
}

/** Backgrounds: names that people give, colours that none can take for each other (see the test for how far apart). */
export const backgrounds: readonly NamedColour[] = Object.entries({
  white: '#ffffff',
  'light grey': '#c8c8c8',
  grey: '#8c8c8c',
  'dark grey': '#484848',
  black: '#0a0a0a',
  red: '#e53935',
  'dark red': '#8b1a1a',
  orange: '#fb8c00',
  'pale orange': '#ffbb7c',
  yellow: '#fdd835',
  'pale yellow': '#fff3a6',
  green: '#43a047',
  'pale green': '#b5e8a2',
  'dark green': '#14532d',
  teal: '#00a095',
  'pale teal': '#8fe3dc',
  'dark teal': '#005f63',
  blue: '#1e78e5',
  'pale blue': '#a6cfff',
  'dark blue': '#12326e',
  purple: '#8e3fc0',
  'pale purple': '#d9bbfa',
  'dark purple': '#45186b',
  pink: '#f06ea9',
  'pale pink': '#ffc4d6',
  brown: '#8a5a3c',
  beige: '#ead9ab',
  'dark brown': '#44291a',
}).map(named)

/** Of an object's parts: fewer and broader names than backgrounds have, some with several anchors. */
const partColours: readonly NamedColour[] = (
  [
    ['white', '#ffffff', '#f4f4f4'],
    ['light grey', '#d8d8d8', '#c3ccd2'],
    ['grey', '#9e9e9e', '#808589', '#92a3ad'],
    ['dark grey', '#5f6368', '#444444', '#4d5b63'],
    ['black', '#1c1c1c', '#000000', '#2b2b2b', '#263238'],
    ['red', '#ff5117', '#f44336', '#e53935', '#dd2e44', '#f8312f', '#c62828'],
    ['dark red', '#8b1a1a', '#7a1420'],
    ['orange', '#fb8c00', '#f4900c', '#ff6d00', '#ff822d'],
    ['yellow', '#fdd835', '#ffcc4d', '#ffca28', '#ffb02e', '#fff176'],
    ['cream', '#fff3c4', '#ffe8b6'],
    ['green', '#43a047', '#5c913b', '#2e7d32', '#00a651'],
    ['light green', '#a6d388', '#9ccc65', '#b7e4a0'],
    ['dark green', '#14532d', '#3e721d'],
    ['teal', '#00a095', '#00897b', '#26a69a'],
    ['light blue', '#bbddf5', '#8bc4f5', '#81d4fa', '#b3e5fc', '#55acee', '#5dadec'],
    ['blue', '#1e78e5', '#0288d1', '#1976d2', '#226699', '#3b88c3', '#0074ba'],
    ['dark blue', '#12326e', '#1a237e', '#292f6e', '#24446e'],
    ['purple', '#8e3fc0', '#9266cc', '#7b1fa2', '#6d4aff'],
    ['light purple', '#cba6e8', '#b39ddb', '#aa8dd8'],
    ['pink', '#f06ea9', '#f48fb1', '#ea596e', '#f70a8d', '#ff8687', '#fbb6cb'],
    ['brown', '#8a5a3c', '#795548', '#a56953', '#6d4534', '#c1694f', '#a0673a'],
    ['dark brown', '#44291a', '#4e342e', '#3e2723', '#543930', '#662113'],
    ['beige', '#e6d5b8', '#f7dece', '#d4c0a1'],
    ['tan', '#c9a27b', '#d99e82', '#bf9060'],
  ] as const
).flatMap(([name, ...anchors]) => anchors.map((hex) => named([name, hex])))

function named([name, hex]: readonly [string, string]): NamedColour {
  const value = Number.parseInt(hex.slice(1), 16)
  const rgb: Rgb = [value >> 16, (value >> 8) & 255, value & 255]
  return { name, rgb, lab: oklab(...rgb) }
}

/** @throws {RangeError} for a name that is none of `backgrounds`' */
export function backgroundCalled(name: string): NamedColour {
  const found = backgrounds.find((background) => background.name === name)
  if (!found)
    throw new RangeError(
      `background: expected one of ${backgrounds.map((each) => each.name).join(', ')}, got ${name}`,
    )
  return found
}

export const nearestBackground = (lab: Oklab): NamedColour => nearest(backgrounds, lab)

/** The name of a part's colour. Lightness counts for less than hue: shading must not rename what is shaded. */
export function partColourName(red: number, green: number, blue: number): string {
  const cell = ((red >> 3) << 10) | ((green >> 3) << 5) | (blue >> 3)
  return (names[cell] ??= nearest(partColours, oklab(centre(red), centre(green), centre(blue)), 0.7).name)
}
/** By the upper five bits of each channel. */
const names: string[] = []
const centre = (value: number) => (value & ~7) | (value >> 5)

function nearest(colours: readonly NamedColour[], lab: Oklab, lightnessWeight = 1): NamedColour {
  const scaled = (colour: Oklab): Oklab => [colour[0] * lightnessWeight, colour[1], colour[2]]
  const from = scaled(lab)
  let found = colours[0]!
  let least = Infinity
  for (const colour of colours) {
    const distance = colourDistance(from, scaled(colour.lab))
    if (distance < least) [found, least] = [colour, distance]
  }
  return found
}
