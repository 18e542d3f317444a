// How surprising each note was to the model, fetched for the version that is shown once somebody wants to see it.

import { computed, effect, signal, untracked } from "@preact/signals";
import { readSurprise } from "../api/client";
import type { Alternative, Surprise } from "../api/types";
import { attempt } from "../project/notices";
import * as store from "../project/store";

export const showsSurprise = signal(false);
export const isComputing = signal(false);
const answers = signal<ReadonlyMap<string, Surprise>>(new Map());

const answer = computed(() =>
  showsSurprise.value ? answers.value.get(store.shownId.value ?? "") : undefined,
);

/** Bits of each note by its index: as they came with the notes, until all of them are computed. */
export const bitsShown = computed<ReadonlyMap<number, number> | null>(() => {
  if (!showsSurprise.value) return null;
  if (answer.value) return new Map(answer.value.notes.map((note) => [note.note, note.bits]));
  const known = new Map<number, number>();
  for (const [index, note] of store.piece.value.notes.entries()) {
    if (note.bits != null) known.set(index, note.bits);
  }
  return known;
});

export function alternativesOf(index: number): readonly Alternative[] {
  return answer.value?.notes.find((note) => note.note === index)?.alternatives ?? [];
}

effect(() => {
  const id = store.shownId.value;
  const isReady = showsSurprise.value && id && !store.isWriting.value;
  if (isReady && !untracked(() => answers.value).has(id)) void fetchAnswer(id);
});

async function fetchAnswer(id: string): Promise<void> {
  const project = store.project.value;
  if (!project || isComputing.value) return;
  isComputing.value = true;
  const found = await attempt(() => readSurprise(project.id, id));
  isComputing.value = false;
  if (found) answers.value = new Map(answers.value).set(id, found);
  else showsSurprise.value = false;
}
