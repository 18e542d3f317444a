// Questions about one piece: bars, beats, where a quarter note lies. Bars count from 0 here and from 1 on the page.

import type { Metre, Note, Piece, Track } from "../api/types";

export const EMPTY: Piece = { tracks: [], notes: [], bars: [0], metres: [], tempos: [], length: 0 };

export interface Bars {
  from: number; // first bar
  to: number; // the bar after the last one
}

/** Notes that are edited by hand, and their tracks. */
export interface Draft {
  notes: readonly Note[];
  tracks: readonly Track[];
}

const ROOM = 4; // empty bars behind the end, to draw in

/** A piece with other notes, and room behind them. */
export function withDraft(piece: Piece, { notes, tracks }: Draft): Piece {
  const bars = [...piece.bars];
  const { numerator, denominator } = metreAt(piece, Infinity);
  const add = () => bars.push((bars.at(-1) ?? 0) + (4 * numerator) / denominator);
  const last = notes.reduce((most, note) => Math.max(most, note.start), -1);
  while ((bars.at(-1) ?? 0) <= last) add();
  for (let i = 0; i < ROOM; i += 1) add();
  const length = notes.reduce((most, note) => Math.max(most, note.start + note.length), 0);
  return { ...piece, notes: [...notes], tracks: [...tracks], bars, length };
}

/** Where the last bar ends, or a note that is held longer. */
export function endOf(piece: Piece): number {
  return Math.max(piece.length, piece.bars.at(-1) ?? 0);
}

export function barCount(piece: Piece): number {
  return Math.max(0, piece.bars.length - 1);
}

/** The bar in which `quarter` lies; the last one for what comes later. */
export function barAt(piece: Piece, quarter: number): number {
  let low = 0;
  let high = barCount(piece) - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((piece.bars[middle] as number) <= quarter + 1e-6) low = middle;
    else high = middle - 1;
  }
  return Math.max(0, low);
}

/** The bar line nearest to `quarter`: an index into `piece.bars`. */
export function nearestBarLine(piece: Piece, quarter: number): number {
  const bar = barAt(piece, quarter);
  const next = Math.min(bar + 1, piece.bars.length - 1);
  return quarter - barStart(piece, bar) <= barStart(piece, next) - quarter ? bar : next;
}

export function barStart(piece: Piece, bar: number): number {
  return piece.bars[Math.max(0, Math.min(bar, piece.bars.length - 1))] ?? 0;
}

export function metreAt(piece: Piece, quarter: number): Metre {
  let found: Metre = { start: 0, numerator: 4, denominator: 4 };
  for (const metre of piece.metres) {
    if (metre.start > quarter + 1e-6) break;
    found = metre;
  }
  return found;
}

export function beatLength(metre: Metre): number {
  return 4 / metre.denominator;
}

/** "5 : 2" for the second beat of the fifth bar. */
export function placeName(piece: Piece, quarter: number): string {
  const bar = barAt(piece, quarter);
  const metre = metreAt(piece, quarter);
  const beat = Math.floor((quarter - barStart(piece, bar)) / beatLength(metre) + 1e-6);
  return `${bar + 1} : ${Math.min(beat, metre.numerator - 1) + 1}`;
}

export function barsName(bars: Bars): string {
  return bars.to - bars.from === 1 ? `bar ${bars.from + 1}` : `bars ${bars.from + 1} to ${bars.to}`;
}

const NAMES = ["C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B"];

export function pitchName(pitch: number): string {
  return `${NAMES[pitch % 12]}${Math.floor(pitch / 12) - 1}`;
}

export function isBlackKey(pitch: number): boolean {
  return [1, 3, 6, 8, 10].includes(pitch % 12);
}

interface ByStart {
  notes: Note[]; // by their beginning
  indexes: number[]; // where each is in piece.notes
  longest: number;
}

const orders = new WeakMap<readonly Note[], ByStart>();

/** The notes by their beginning, remembered for each list of notes. */
export function byStart(notes: readonly Note[]): ByStart {
  let order = orders.get(notes);
  if (!order) {
    const indexes = notes.map((_, index) => index);
    indexes.sort((a, b) => (notes[a] as Note).start - (notes[b] as Note).start);
    const longest = notes.reduce((most, note) => Math.max(most, note.length), 0);
    order = { notes: indexes.map((index) => notes[index] as Note), indexes, longest };
    orders.set(notes, order);
  }
  return order;
}

/** The first position in `notes` (by beginning) that begins at or after `quarter`. */
export function firstFrom(notes: readonly Note[], quarter: number): number {
  let low = 0;
  let high = notes.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((notes[middle] as Note).start < quarter) low = middle + 1;
    else high = middle;
  }
  return low;
}
