// Where things lie on the piano roll: quarters and pitches to pixels and back.

import { signal } from "@preact/signals";
import type { Piece } from "../api/types";
import { endOf } from "../project/piece";

export const RULER = 30; // pixels, above the notes
export const KEYS = 46; // pixels, left of the notes
const LOWEST_ZOOM = 1.5; // pixels per quarter
const HIGHEST_ZOOM = 240;
const LOWEST_ROW = 3; // pixels per pitch
const HIGHEST_ROW = 30;
const MARGIN = 3; // pitches above and below the notes
const FEWEST_PITCHES = 30;
const SPARE = 8; // quarters that can be scrolled to behind the end

export interface View {
  width: number;
  height: number;
  left: number; // quarter at the left edge of the notes
  top: number; // pitch at the upper edge, with a fraction
  zoom: number; // pixels per quarter
  row: number; // pixels per pitch
}

export const view = signal<View>({ width: 0, height: 0, left: 0, top: 84, zoom: 26, row: 9 });
/** The rows follow the piece until somebody scrolls or zooms them. */
export const rowsAreFitted = signal(true);
/** The playhead stays in sight while playing. */
export const following = signal(true);

export const xOf = (view: View, quarter: number) => KEYS + (quarter - view.left) * view.zoom;
export const yOf = (view: View, pitch: number) => RULER + (view.top - pitch - 1) * view.row;
export const quarterAt = (view: View, x: number) => view.left + (x - KEYS) / view.zoom;
export const pitchAt = (view: View, y: number) => Math.ceil(view.top - (y - RULER) / view.row) - 1;
export const quartersShown = (view: View) => (view.width - KEYS) / view.zoom;

export function look(change: Partial<View>, piece: Piece): void {
  const next = { ...view.value, ...change };
  next.zoom = clamp(next.zoom, LOWEST_ZOOM, HIGHEST_ZOOM);
  next.row = clamp(next.row, LOWEST_ROW, HIGHEST_ROW);
  const most = Math.max(0, endOf(piece) + SPARE - quartersShown(next));
  next.left = clamp(next.left, 0, most);
  const rows = (next.height - RULER) / next.row;
  next.top = rows >= 128 ? 128 : clamp(next.top, rows, 128);
  view.value = next;
}

/** Zoom time by `factor` and keep what lies at `x` where it is. */
export function zoomAt(factor: number, x: number, piece: Piece): void {
  const old = view.value;
  const zoom = clamp(old.zoom * factor, LOWEST_ZOOM, HIGHEST_ZOOM);
  look({ zoom, left: quarterAt(old, x) - (x - KEYS) / zoom }, piece);
}

export function zoomBy(factor: number, piece: Piece): void {
  zoomAt(factor, KEYS + (view.value.width - KEYS) / 2, piece);
}

/** The whole piece in sight. */
export function fit(piece: Piece): void {
  rowsAreFitted.value = true;
  fitRows(piece);
  look({ left: 0, zoom: (view.value.width - KEYS - 12) / Math.max(endOf(piece), 8) }, piece);
}

export function fitRows(piece: Piece): void {
  if (!rowsAreFitted.value || view.value.height === 0) return;
  const pitches = piece.notes.map((note) => note.pitch);
  let low = 60 - FEWEST_PITCHES / 2;
  let high = low + FEWEST_PITCHES;
  if (pitches.length) {
    low = pitches.reduce((a, b) => Math.min(a, b)) - MARGIN;
    high = pitches.reduce((a, b) => Math.max(a, b)) + MARGIN;
    const short = Math.max(0, FEWEST_PITCHES - (high - low));
    low -= short / 2;
    high += short / 2;
  }
  const room = view.value.height - RULER;
  look({ row: room / (high - low), top: high + 1 }, piece);
}

/** Scroll so that `quarter` is in sight; smoothly where it runs on. */
export function follow(quarter: number, piece: Piece, smoothly: boolean): void {
  const shown = quartersShown(view.value);
  const { left } = view.value;
  const isInSight = quarter >= left && quarter <= left + shown * 0.92;
  if (smoothly && quarter > left + shown * 0.6 && quarter < left + shown) {
    look({ left: quarter - shown * 0.6 }, piece);
  } else if (!isInSight) look({ left: quarter - shown * 0.1 }, piece);
}

export function clamp(value: number, low: number, high: number): number {
  return Math.max(low, Math.min(high, value));
}
