// Undo and redo: moves in the tree of versions, in the order in which versions were the project's own.

import { computed, signal } from "@preact/signals";

interface Visits {
  ids: readonly string[];
  at: number;
}

const visits = signal<Visits>({ ids: [], at: -1 });

export const canUndo = computed(() => visits.value.at > 0);
export const canRedo = computed(() => visits.value.at < visits.value.ids.length - 1);

export function visit(id: string): void {
  const { ids, at } = visits.value;
  if (ids[at] === id) return;
  const kept = ids.slice(0, at + 1);
  visits.value = { ids: [...kept, id], at: kept.length };
}

/** The version one move back (-1) or forward (1), which now is the visited one; undefined at an end. */
export function move(by: -1 | 1): string | undefined {
  const { ids, at } = visits.value;
  const id = ids[at + by];
  if (id !== undefined) visits.value = { ids, at: at + by };
  return id;
}

export function dropVisits(gone: readonly string[]): void {
  const { ids, at } = visits.value;
  const kept = ids.filter((id) => !gone.includes(id));
  const before = ids.slice(0, at + 1).filter((id) => !gone.includes(id)).length;
  visits.value = { ids: kept, at: Math.max(before, Math.min(1, kept.length)) - 1 };
}

export function clear(): void {
  visits.value = { ids: [], at: -1 };
}
