// Notes being drawn, moved and deleted by hand, and tracks added for them. They become a version of their own when they are saved.

import { computed, effect, signal, untracked } from "@preact/signals";
import type { Instrument, Note } from "../api/types";
import { saveNotes } from "../project/actions";
import { type Draft, endOf } from "../project/piece";
import * as store from "../project/store";
import { draft } from "../project/store";
import { clamp } from "./geometry";

const FIRST_VELOCITY = 90;
const SHORTEST = 1 / 16; // quarters

export const marked = signal<ReadonlySet<number>>(new Set());
export const grid = signal(0.25); // quarters
export const drawnTrack = signal(0);
const before = signal<readonly Draft[]>([]);
const after = signal<readonly Draft[]>([]);

export const isEditing = computed(() => draft.value !== null);
export const isChanged = computed(() => before.value.length > 0);
export const canRedoEdit = computed(() => after.value.length > 0);
/** Where nothing is written yet, a piece is drawn from nothing. */
export const canEdit = computed(() => store.run.value !== null && !store.isWriting.value);

export function startEditing(): void {
  if (!canEdit.value) return;
  const { notes, tracks } = store.piece.value;
  const first = store.run.value?.instruments[0];
  reset({ notes, tracks: tracks.length || !first ? tracks : [trackOf(first)] });
  drawnTrack.value = clamp(drawnTrack.value, 0, Math.max(0, store.piece.value.tracks.length - 1));
}

/** Add an empty track, in which the next notes are drawn. */
export function addTrack(instrument: Instrument): void {
  const now = draft.value;
  if (!now) return;
  remember();
  draft.value = { ...now, tracks: [...now.tracks, trackOf(instrument)] };
  drawnTrack.value = now.tracks.length;
}

function trackOf({ name, program, is_drum }: Instrument) {
  return { name, program, is_drum };
}

function reset(to: Draft | null): void {
  draft.value = to;
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
  if (!draft.value || !isChanged.value || (await saveNotes(draft.value))) reset(null);
}

/** Remember the music as it is, to come back to it; called before a change or a drag. */
export function remember(): void {
  if (!draft.value) return;
  before.value = [...before.value, draft.value];
  after.value = [];
}

export function undoEdit(): void {
  travel(before, after);
}

export function redoEdit(): void {
  travel(after, before);
}

function travel(from: typeof before, to: typeof before): void {
  const there = from.value.at(-1);
  if (!there || !draft.value) return;
  to.value = [...to.value, draft.value];
  from.value = from.value.slice(0, -1);
  draft.value = there;
  drawnTrack.value = clamp(drawnTrack.value, 0, Math.max(0, there.tracks.length - 1));
  marked.value = new Set();
}

function setNotes(notes: readonly Note[]): void {
  if (draft.value) draft.value = { ...draft.value, notes };
}

export function snap(quarter: number): number {
  return Math.floor(quarter / grid.value + 1e-6) * grid.value;
}

/** Add a note at the grid's line before `quarter`; it is the only marked one then. */
export function addNote(quarter: number, pitch: number): Note | null {
  const start = snap(quarter);
  const now = draft.value;
  if (!now || now.tracks.length === 0 || start < 0 || start >= endOf(store.piece.value))
    return null;
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
  setNotes([...now.notes, note]);
  marked.value = new Set([now.notes.length]);
  return note;
}

export function removeMarked(): void {
  if (marked.value.size === 0 || !draft.value) return;
  remember();
  setNotes(draft.value.notes.filter((_, index) => !marked.value.has(index)));
  marked.value = new Set();
}

/** Move or stretch the marked notes of `notes`, which they are counted from. */
export function shiftMarked(
  notes: readonly Note[],
  by: { quarters?: number; pitches?: number; length?: number; velocity?: number },
): void {
  const end = endOf(store.piece.value);
  const moved = notes.map((note, index): Note => {
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
  setNotes(moved);
}

/** The same by a key: one step in its own place in the history. */
export function nudge(by: Parameters<typeof shiftMarked>[1]): void {
  if (marked.value.size === 0 || !draft.value) return;
  const { notes } = draft.value;
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
