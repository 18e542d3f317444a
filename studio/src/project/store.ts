// What the page knows, as signals: every view reads these, and only project/actions.ts and project/server.ts change them.

import { computed, signal } from "@preact/signals";
import type { Piece, Project, Run, RunDetail, Version } from "../api/types";
import { type Bars, type Draft, EMPTY, withDraft } from "./piece";
import { TempoMap } from "./tempo";
import { find, sideBySide } from "./tree";

export const runs = signal<Run[] | null>(null); // null until the server answered
export const musicalRuns = computed(() => runs.value?.filter((run) => run.kind === "music") ?? []);
export const pickedRun = signal<string | null>(null);
/** The run that a new project is made with. */
export const chosenRun = computed(() => pickedRun.value ?? musicalRuns.value[0]?.id ?? null);
export const run = signal<RunDetail | null>(null);
export const project = signal<Project | null>(null);
export const connected = signal(true);

export const pieces = signal<ReadonlyMap<string, Piece>>(new Map());
/** The version on the piano roll and in the loudspeakers; not yet the project's own while it is only tried. */
export const shownId = signal<string | null>(null);
export const comparing = signal(false);

/** Where playing starts and continuing branches, in quarters. */
export const cursor = signal(0);
export const selection = signal<Bars | null>(null);
export const protectedTracks = signal<ReadonlySet<number>>(new Set());

export const versions = computed<Version[]>(() => project.value?.versions ?? []);
export const current = computed(() => find(versions.value, project.value?.current ?? null));
export const shown = computed(() => find(versions.value, shownId.value));
/** The music while it is edited by hand (roll/draft.ts). */
export const draft = signal<Draft | null>(null);
/** What is on the roll and what is heard. */
export const piece = computed<Piece>(() => {
  const shown = pieces.value.get(shownId.value ?? "") ?? EMPTY;
  return draft.value ? withDraft(shown, draft.value) : shown;
});
export const tempoMap = computed(() => new TempoMap(piece.value.tempos));
export const isWriting = computed(() => shown.value?.status === "writing");
export const candidates = computed<Version[]>(() => {
  if (!comparing.value || !shown.value) return [];
  const group = sideBySide(versions.value, shown.value);
  return group.length > 1 ? group : [];
});
