// Notes being drawn, moved and deleted by hand. They become a version of their own when they are saved.

import { computed, effect, signal, untracked } from "@preact/signals";
import type { Note } from "../api/types";
import { saveNotes } from "../project/actions";
import * as store from "../project/store";
import { draft } from "../project/store";
import { clamp } from "./geometry";

const FIRST_VELOCITY = 90;
const SHORTEST = 1 / 16; // quarters

export const marked = signal<ReadonlySet<number>>(new Set());
export const grid = signal(0.25); // quarters
export const drawnTrack = signal(0);
const before = signal<readonly (readonly Note[])[]>([]);
const after = signal<readonly (readonly Note[])[]>([]);

export const isEditing = computed(() => draft.value !== null);
export const isChanged = computed(() => before.value.length > 0);

export function startEditing(): void {
  if (!store.shown.value || store.isWriting.value) return;
  reset(store.piece.value.notes);
  drawnTrack.value = clamp(drawnTrack.value, 0, Math.max(0, store.piece.value.tracks.length - 1));
}

function reset(notes: readonly Note[] | null): void {
  draft.value = notes;
  marked.value = new Set();
  before.value = [];
  after.value = [];
}

/** Whether the edits may be left behind: asks where there are any. */
export function mayLeave(): boolean {
  return !isChanged.value || window.confirm("Discard the notes that you have changed?");
}

export function discardEdits(): void {
  reset(null);
}

/** Leave the edit mode; what was changed becomes a version. */
export async function finishEditing(): Promise<void> {
  if (!isChanged.value || (await saveNotes([...(draft.value ?? [])]))) reset(null);
}

/** Remember the notes as they are, to come back to them; called before a change or a drag. */
export function remember(): void {
  before.value = [...before.value, draft.value ?? []];
  after.value = [];
}

export function undoEdit(): void {
  travel(before, after);
}

export function redoEdit(): void {
  travel(after, before);
}

function travel(from: typeof before, to: typeof before): void {
  const notes = from.value.at(-1);
  if (!notes || !draft.value) return;
  to.value = [...to.value, draft.value];
  from.value = from.value.slice(0, -1);
  draft.value = notes;
  marked.value = new Set();
}

export function snap(quarter: number): number {
  return Math.floor(quarter / grid.value + 1e-6) * grid.value;
}

/** Add a note at the grid's line before `quarter`; it is the only marked one then. */
export function addNote(quarter: number, pitch: number): Note | null {
  const start = snap(quarter);
  if (start < 0 || start >= store.piece.value.length) return null;
  remember();
  const note: Note = {
    track: drawnTrack.value,
    pitch: clamp(pitch, 0, 127),
    start,
    length: grid.value,
    velocity: FIRST_VELOCITY,
    kind: "prompt",
    bits: null,
  };
  draft.value = [...(draft.value ?? []), note];
  marked.value = new Set([draft.value.length - 1]);
  return note;
}

export function removeMarked(): void {
  if (marked.value.size === 0) return;
  remember();
  draft.value = (draft.value ?? []).filter((_, index) => !marked.value.has(index));
  marked.value = new Set();
}

/** Move or stretch the marked notes of `notes`, which they are counted from. */
export function shiftMarked(
  notes: readonly Note[],
  by: { quarters?: number; pitches?: number; length?: number; velocity?: number },
): void {
  const end = store.piece.value.length;
  draft.value = notes.map((note, index) => {
    if (!marked.value.has(index)) return note;
    const start = clamp(note.start + (by.quarters ?? 0), 0, Math.max(0, end - SHORTEST));
    return {
      ...note,
      start,
      pitch: clamp(note.pitch + (by.pitches ?? 0), 0, 127),
      length: clamp(note.length + (by.length ?? 0), SHORTEST, Math.max(SHORTEST, end - start)),
      velocity: clamp(note.velocity + (by.velocity ?? 0), 1, 127),
      kind: "prompt",
      bits: null,
    };
  });
}

/** The same by a key: one step in its own place in the history. */
export function nudge(by: Parameters<typeof shiftMarked>[1]): void {
  if (marked.value.size === 0 || !draft.value) return;
  const notes = draft.value;
  remember();
  shiftMarked(notes, by);
}

// Another version on the roll ends the editing of the one before.
effect(() => {
  store.shownId.value;
  untracked(() => reset(null));
});
window.addEventListener("beforeunload", (event) => {
  if (isEditing.value && isChanged.value) event.preventDefault();
});
