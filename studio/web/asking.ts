// What is asked of new bars, as tokens that are given. seqgen/export/controls.py says what the tables mean.

import type { Asking, Control } from "./model";

/** What is given while new bars are written, and what must not be drawn. */
export interface Given {
  openings: number[][]; // after the token that begins each of the bars
  after: Record<number, number[]>; // after a token that was drawn
  forbidden: number[];
}

export const NOTHING: Given = { openings: [], after: {}, forbidden: [] };

/** What is asked: texts by control, and a time signature. */
export interface Asked {
  asked: Readonly<Record<string, string>>;
  metre: string | null;
  bars: number; // how many
}

/** A word that cannot be asked for. */
export class Unknown extends Error {
  constructor(
    readonly setting: string,
    readonly word: string,
  ) {
    super(word);
  }
}

type Wish = (bar: number) => number[]; // marks of a bar, counted from 0

/** The marks of earlier bars that still say what they are: of what is asked of the new ones too. */
export function marksOf(asking: Asking, { asked }: Asked): Set<number> {
  const controls = asking.controls.filter(({ name }) => asked[name] !== undefined);
  return new Set(controls.flatMap(idsOf));
}

/** What is given for what is asked, after tokens that hold no marks but those of `marksOf`. */
export function plan(
  asking: Asking,
  request: Asked,
  before: readonly number[],
  end: number, // the token that ends a piece, which it does not before all bars are written
): Given {
  const { asked, metre, bars } = request;
  const told = asking.controls.map((control) => {
    const wish = wishOf(control, asked[control.name], bars);
    const first = inForce(control, before);
    return (bar: number) => marks(control, wish, bar, first);
  });
  const head = metre === null ? [] : [idOf(asking.metres, "metre", metre)];
  const parts = asking.controls.flatMap((control) => partsOf(control, asked[control.name]));
  const playing = parts.filter(({ plays }) => plays).map(({ id }) => id);
  const first = playing.length > 0 && !parts[0]?.plays ? playing.slice(0, 1) : [];
  const drawsMetre = metre === null && asking.metres.length > 0;
  return {
    openings: Array.from({ length: bars }, (_, bar) => [
      ...told.flatMap((of) => of(bar)),
      ...head,
      ...(drawsMetre ? [] : first),
    ]),
    after: drawsMetre ? Object.fromEntries(asking.metres.map(([, id]) => [id, first])) : {},
    forbidden: [...parts.filter(({ plays }) => !plays).map(({ id }) => id), end],
  };
}

function marks(control: Control, wish: Wish, bar: number, first: number[]): number[] {
  const now = wish(bar);
  const before = bar > 0 ? wish(bar - 1) : first;
  const isAgain = control.every !== null && bar % control.every === 0 && now.length > 0;
  if (now.join() === before.join() && !isAgain) return [];
  return now.length > 0 ? now : openOf(control);
}

function wishOf(control: Control, text: string | undefined, bars: number): Wish {
  const { name, words, reads } = control;
  if (reads === "countdown") {
    const byWord = new Map(words);
    return (bar) => [byWord.get(String(bars - bar)) ?? []].flat();
  }
  if (text === undefined) return () => [];
  const ids = split(control, text).map((word) =>
    word === control.open?.[0] ? [] : [idOf(words, name, word)],
  );
  if (ids.length === 0) throw new Unknown(name, text);
  if (reads === "by bar") return (bar) => ids[bar % ids.length] as number[];
  const all = ids.flat();
  const together = words.map(([, id]) => id).filter((id) => all.includes(id));
  return () => together;
}

/** Who plays, of all that a control tells apart; none where it is not asked. */
function partsOf(control: Control, text: string | undefined): { id: number; plays: boolean }[] {
  if (control.parts.length === 0 || text === undefined) return [];
  const asked = split(control, text);
  const plays = control.words.map(([word]) => asked.includes(word));
  return control.parts.map((id, i) => ({ id, plays: plays[i] ?? false }));
}

function split({ separator }: Control, text: string): string[] {
  const words = separator === null ? [text] : text.split(new RegExp(separator));
  return words.map((word) => word.trim()).filter((word) => word !== "");
}

function idOf(words: Control["words"], setting: string, word: string): number {
  const found = words.find(([known]) => known === word);
  if (!found) throw new Unknown(setting, word);
  return found[1];
}

/** What a control's latest mark says. */
function inForce(control: Control, tokens: readonly number[]): number[] {
  const ids = idsOf(control);
  const last = tokens.filter((id) => ids.includes(id)).slice(-1);
  return last[0] === openOf(control)[0] ? [] : last;
}

const openOf = ({ open }: Control) => (open === null ? [] : [open[1]]);
const idsOf = (control: Control) => [...control.words.map(([, id]) => id), ...openOf(control)];
