// Pointer and wheel on the piano roll: branch at a bar line, select bars, seek, scroll, zoom, and edit notes.

import { signal } from "@preact/signals";
import type { Note } from "../api/types";
import { branchAt } from "../project/actions";
import { barAt, barCount, barStart, byStart, firstFrom, nearestBarLine } from "../project/piece";
import * as store from "../project/store";
import { seek } from "../sound/player";
import { addNote, isEditing, marked, remember, removeMarked, shiftMarked, snap } from "./draft";
import {
  KEYS,
  look,
  pitchAt,
  quarterAt,
  RULER,
  rowsAreFitted,
  view,
  xOf,
  zoomAt,
} from "./geometry";

const NEAR = 10; // pixels from a bar line
const EDGE = 7; // pixels at the end of a note, where it is stretched
const FAR = 5; // pixels that make a click a drag

/** The bar line that a click would branch from. */
export const branchLine = signal<number | null>(null);
/** The note under the pointer, by its index, and where the pointer is. */
export const hovered = signal<{ index: number; x: number; y: number } | null>(null);

interface Point {
  x: number;
  y: number;
}

type Drag = (to: Point) => void;

export function noteAt(point: Point): number | null {
  const { row } = view.value;
  const quarter = quarterAt(view.value, point.x);
  const pitch = pitchAt(view.value, point.y);
  if (point.x < KEYS || point.y < RULER || row <= 0) return null;
  const order = byStart(store.piece.value.notes);
  const slack = 3 / view.value.zoom;
  let found: number | null = null;
  for (
    let i = firstFrom(order.notes, quarter - order.longest - slack);
    i < order.notes.length;
    i += 1
  ) {
    const note = order.notes[i] as Note;
    if (note.start > quarter) break;
    const isHit = note.pitch === pitch && quarter <= note.start + note.length + slack;
    if (isHit) found = order.indexes[i] as number;
  }
  return found;
}

function barLineAt(point: Point): number | null {
  if (point.y > RULER || isEditing.value || barCount(store.piece.value) === 0) return null;
  const line = nearestBarLine(store.piece.value, quarterAt(view.value, point.x));
  const distance = Math.abs(xOf(view.value, barStart(store.piece.value, line)) - point.x);
  return distance <= NEAR && line > 0 ? line : null;
}

export function attach(canvas: HTMLCanvasElement): () => void {
  const pointers = new Map<number, Point>();
  let drag: Drag | null = null;
  let click: (() => void) | null = null;
  let origin: Point = { x: 0, y: 0 };

  const pointOf = (event: MouseEvent): Point => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };

  const down = (event: PointerEvent) => {
    if (event.button !== 0) return;
    const point = pointOf(event);
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, point);
    origin = point;
    if (pointers.size > 1) {
      [drag, click] = [null, null];
    } else [drag, click] = begin(point, event);
  };

  const move = (event: PointerEvent) => {
    const point = pointOf(event);
    if (pointers.size === 2 && pointers.has(event.pointerId))
      pinch(pointers, event.pointerId, point);
    if (pointers.has(event.pointerId)) pointers.set(event.pointerId, point);
    else hover(canvas, point);
    if (Math.hypot(point.x - origin.x, point.y - origin.y) > FAR) click = null;
    if (pointers.size === 1 && drag && !click) drag(point);
  };

  const up = (event: PointerEvent) => {
    if (pointers.delete(event.pointerId) && event.type === "pointerup") click?.();
    [drag, click] = [null, null];
  };

  const leave = () => {
    branchLine.value = null;
    hovered.value = null;
  };

  const doubleClick = (event: MouseEvent) => {
    const index = noteAt(pointOf(event));
    if (!isEditing.value || index === null) return;
    marked.value = new Set([index]);
    removeMarked();
  };

  const handlers: [string, (event: never) => void][] = [
    ["pointerdown", down],
    ["pointermove", move],
    ["pointerup", up],
    ["pointercancel", up],
    ["pointerleave", leave],
    ["dblclick", doubleClick],
  ];
  for (const [name, handle] of handlers) canvas.addEventListener(name, handle as EventListener);
  const roll = (event: WheelEvent) => wheel(event, pointOf(event));
  canvas.addEventListener("wheel", roll, { passive: false });
  return () => {
    for (const [name, handle] of handlers)
      canvas.removeEventListener(name, handle as EventListener);
    canvas.removeEventListener("wheel", roll);
  };
}

/** What a drag from `point` does, and what a click there does. */
function begin(point: Point, event: PointerEvent): [Drag | null, (() => void) | null] {
  if (isEditing.value && point.y > RULER) return edit(point, event.shiftKey);
  const line = barLineAt(point);
  if (line !== null && event.pointerType !== "touch")
    return [select(point), () => void branchAt(line)];
  const click = () => {
    store.selection.value = null;
    seek(Math.min(quarterAt(view.value, Math.max(point.x, KEYS)), store.piece.value.length));
  };
  const isTouch = event.pointerType === "touch" && point.y > RULER;
  return [isTouch ? pan(point) : select(point), click];
}

function select(from: Point): Drag {
  const piece = store.piece.value;
  const first = barAt(piece, quarterAt(view.value, from.x));
  return (to) => {
    const last = barAt(piece, quarterAt(view.value, to.x));
    if (barCount(piece) === 0) return;
    store.selection.value = { from: Math.min(first, last), to: Math.max(first, last) + 1 };
  };
}

function pan(from: Point): Drag {
  const { left, top, zoom, row } = view.value;
  return (to) => {
    rowsAreFitted.value = false;
    const moved = { left: left - (to.x - from.x) / zoom, top: top + (to.y - from.y) / row };
    look(moved, store.piece.value);
  };
}

function pinch(pointers: Map<number, Point>, moved: number, to: Point): void {
  const [other] = [...pointers].filter(([id]) => id !== moved).map(([, point]) => point);
  const before = pointers.get(moved);
  if (!other || !before) return;
  const factor =
    Math.max(20, Math.abs(to.x - other.x)) / Math.max(20, Math.abs(before.x - other.x));
  zoomAt(factor, (to.x + other.x) / 2, store.piece.value);
}

function edit(point: Point, adds: boolean): [Drag | null, (() => void) | null] {
  const quarter = quarterAt(view.value, point.x);
  const index = noteAt(point);
  if (index === null) {
    if (!addNote(quarter, pitchAt(view.value, point.y))) return [null, null];
    return [stretch(point, store.piece.value.notes), null];
  }
  const note = store.piece.value.notes[index] as Note;
  if (adds) marked.value = new Set([...marked.value, index]);
  else if (!marked.value.has(index)) marked.value = new Set([index]);
  const fromEnd = xOf(view.value, note.start + note.length) - point.x;
  const notes = store.piece.value.notes;
  let isRemembered = false;
  const act =
    fromEnd < Math.min(EDGE, (note.length * view.value.zoom) / 3)
      ? stretch(point, notes)
      : carry(point, notes, note);
  const drag: Drag = (to) => {
    if (!isRemembered) remember();
    isRemembered = true;
    act(to);
  };
  return [drag, () => {}];
}

function stretch(from: Point, notes: readonly Note[]): Drag {
  const start = quarterAt(view.value, from.x);
  return (to) => shiftMarked(notes, { length: snap(quarterAt(view.value, to.x)) - snap(start) });
}

function carry(from: Point, notes: readonly Note[], note: Note): Drag {
  const grip = quarterAt(view.value, from.x) - note.start;
  return (to) => {
    const quarters = snap(quarterAt(view.value, to.x) - grip + 1e-3) - snap(note.start);
    const pitches = pitchAt(view.value, to.y) - note.pitch;
    shiftMarked(notes, { quarters, pitches });
  };
}

function hover(canvas: HTMLCanvasElement, point: Point): void {
  branchLine.value = barLineAt(point);
  const index = noteAt(point);
  hovered.value = index === null ? null : { index, ...point };
  const isOnNote = isEditing.value && index !== null;
  canvas.dataset.pointer = branchLine.value !== null ? "branch" : isOnNote ? "note" : "";
}

function wheel(event: WheelEvent, point: Point): void {
  event.preventDefault();
  const piece = store.piece.value;
  const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
  const [dx, dy] = [event.deltaX * unit, event.deltaY * unit];
  const { left, top, zoom, row } = view.value;
  if (event.ctrlKey || event.metaKey) zoomAt(Math.exp(-dy / 300), point.x, piece);
  else if (event.shiftKey) look({ left: left + (dx || dy) / zoom }, piece);
  else if (rowsAreFitted.value) look({ left: left + (dx + dy) / zoom }, piece);
  else look({ left: left + dx / zoom, top: top - dy / row }, piece);
}
