// What a person does with a project. Each returns when the server has agreed; what goes wrong becomes a notice.

import { computed } from "@preact/signals";
import * as api from "../api/client";
import type { Project, Task, Track, Version, WriteRequest } from "../api/types";
import { follow } from "../roll/geometry";
import { canRedo, canUndo, dropVisits, move, visit } from "./history";
import { attempt, say } from "./notices";
import { barAt, barStart, type Draft, nearestBarLine } from "./piece";
import { forget, leave, show, takeVersion } from "./server";
import * as store from "./store";
import { descendants } from "./tree";
import { chosen, task, wishes } from "./wishes";

export async function begin(run: string, midi?: File, bars: number | null = null): Promise<void> {
  const project = await attempt(() => api.createProject(run));
  if (!project) return;
  await show(project);
  if (midi) await bring(midi, bars);
}

export async function open(file: File): Promise<void> {
  const project = await attempt(() => api.openProjectFile(file));
  if (project) await show(project);
}

export async function openKnown(id: string): Promise<void> {
  const project = await attempt(() => api.readProject(id));
  if (project) await show(project);
}

export function close(): void {
  leave();
  history.pushState(null, "", location.pathname);
}

export async function rename(name: string): Promise<void> {
  await change({ name });
}

async function change(to: { name?: string; current?: string }): Promise<boolean> {
  const project = store.project.value;
  if (!project) return false;
  const changed: Project | undefined = await attempt(() => api.changeProject(project.id, to));
  if (!changed) return false;
  const now = store.project.value;
  if (now?.id === changed.id) {
    store.project.value = { ...now, name: changed.name, current: changed.current };
  }
  return true;
}

/** A MIDI file becomes a new first version; `bars` of it are the prompt (all of them where null). */
export async function bring(file: File, bars: number | null): Promise<Version | undefined> {
  const project = store.project.value;
  if (!project) return undefined;
  store.cursor.value = 0; // now: its notes may be seen, and the cursor moved, before the answer comes
  const version = await attempt(() => api.uploadMidi(project.id, file, bars));
  if (!version) return undefined;
  takeVersion(version);
  await goTo(version.id);
  const sentences = version.report?.sentences ?? [];
  say("news", `“${file.name}” is the beginning now.`, ...sentences);
  return version;
}

/** Ask for new music as the panel beside the roll says, or from another bar line, or fewer of it. */
export async function write(asked: Partial<WriteRequest> = {}): Promise<void> {
  const project = store.project.value;
  if (!project) return;
  const piece = store.piece.value;
  const { bars, samples, seed, best } = wishes.value;
  const request = {
    parent: store.shownId.value,
    bars,
    samples,
    seed,
    ...chosen(),
    ...ofTask(asked.task ?? task.value),
    ...asked,
  };
  const alternatives = best ? null : request.samples; // null: as many as the server thinks right
  const versions = await attempt(() => api.write(project.id, { ...request, alternatives }));
  const first = versions?.[0];
  if (!versions || !first) return;
  if (first.from_bar !== null) follow(barStart(piece, first.from_bar), piece, false);
  for (const version of versions) takeVersion(version);
  store.comparing.value = true;
  store.selection.value = null;
  store.shownId.value = first.id;
  if (versions.length === 1 || !project.current) await keep(first.id);
}

function ofTask(name: Task): Partial<WriteRequest> & { task: Task } {
  const { amount, form } = wishes.value;
  const add = addedPart.value;
  const bars = store.selection.value;
  const rewrite = bars ? `${bars.from + 1}-${bars.to}` : null;
  switch (name) {
    case "rewrite":
      return { task: "rewrite", rewrite, tracks: openParts(), bars: null };
    case "vary":
      return { task: "vary", rewrite, tracks: openParts(), amount, bars: null };
    case "add":
      return { task: "add", add: add ? [add] : [], bars: null };
    default:
      if (store.shownId.value) {
        const from_bar = wishes.value.fromPlayhead ? lineAtCursor.value : null;
        return { task: "continue", from_bar };
      }
      return form ? { task: "continue", form, bars: null } : { task: "continue" };
  }
}

/** The parts that do not play yet. */
export const absentParts = computed(() => {
  const playing = new Set(store.piece.value.tracks.map(partOf));
  return (store.run.value?.parts ?? []).filter((part) => !playing.has(part.value));
});

/** The part that would be added: the one that was chosen, if it can be, or else the first. */
export const addedPart = computed<string | null>(() => {
  const parts = absentParts.value.map((part) => part.value);
  return parts.includes(wishes.value.add) ? wishes.value.add : (parts[0] ?? null);
});

/** The bar line at the playhead, where it is one inside the piece. */
export const lineAtCursor = computed<number | null>(() => {
  const piece = store.piece.value;
  const line = nearestBarLine(piece, store.cursor.value);
  return line <= 0 || line >= piece.bars.length - 1 ? null : line;
});

export async function branchAt(bar: number): Promise<void> {
  store.cursor.value = barStart(store.piece.value, bar);
  const isInside = bar > 0 && bar < store.piece.value.bars.length - 1;
  await write({ task: "continue", from_bar: isInside ? bar : null });
}

/** The parts that may be written anew, in the run's own words; none where all may. */
function openParts(): string[] {
  const closed = store.protectedTracks.value;
  if (closed.size === 0) return [];
  return store.piece.value.tracks.filter((_, index) => !closed.has(index)).map(partOf);
}

/** "0.melody" where the run has such a part, or else the track's program, which the server finds. */
function partOf(track: Track): string {
  const program = track.is_drum ? "drums" : String(track.program);
  const withRole = `${program}.${track.name.toLowerCase()}`;
  return store.run.value?.parts.some((part) => part.value === withRole) ? withRole : program;
}

/** Look at and hear a version without making it the project's own. */
export function tryOut(id: string): void {
  store.shownId.value = id;
  store.comparing.value = store.comparing.value && store.candidates.value.length > 0;
}

/** Make a version the project's own, without showing another one. */
async function keep(id: string): Promise<boolean> {
  if (!(await change({ current: id }))) return false;
  visit(id);
  return true;
}

/** Make a version the project's own, and show it. */
export async function goTo(id: string): Promise<void> {
  if (!(await keep(id))) return;
  store.shownId.value = id;
  store.comparing.value = false;
}

export async function drop(id: string): Promise<void> {
  const project = store.project.value;
  if (!project) return;
  const gone = [id, ...descendants(store.versions.value, id)];
  const group = store.candidates.value.filter((version) => version.id !== id);
  const parent = store.versions.value.find((version) => version.id === id)?.parent ?? null;
  const wasShown = gone.includes(store.shownId.value ?? ""); // now: the event may come first
  if (!(await attempt(() => api.removeVersion(project.id, id)))) return;
  dropVisits(gone);
  const next = group[0]?.id ?? parent;
  forget(gone);
  if (gone.includes(project.current ?? "") && next) await change({ current: next });
  if (!store.shown.value || wasShown) store.shownId.value = next;
}

/** Keep one of those side by side and drop the others. */
export async function keepOnly(id: string): Promise<void> {
  const others = store.candidates.value.filter((version) => version.id !== id);
  await goTo(id);
  for (const other of others) await drop(other.id);
}

export async function stopWriting(): Promise<void> {
  const writing = store.versions.value.filter((version) => version.status === "writing");
  for (const version of writing) await drop(version.id);
}

export async function undo(): Promise<void> {
  if (store.comparing.value && store.shownId.value !== store.project.value?.current) {
    store.comparing.value = false;
    store.shownId.value = store.project.value?.current ?? null;
  } else if (canUndo.value) await showAgain(move(-1));
}

export async function redo(): Promise<void> {
  if (canRedo.value) await showAgain(move(1));
}

async function showAgain(id: string | undefined): Promise<void> {
  if (id && (await change({ current: id }))) {
    store.shownId.value = id;
    store.comparing.value = false;
  }
}

/** Notes drawn or moved by hand become a version of their own. */
export async function saveNotes(draft: Draft): Promise<boolean> {
  const project = store.project.value;
  const id = store.shownId.value;
  if (!project) return false;
  if (!id) return drawVersion(draft, chosen());
  const [notes, tracks] = [[...draft.notes], [...draft.tracks]];
  return take(await attempt(() => api.putNotes(project.id, id, notes, tracks)));
}

/** What was drawn or played by hand becomes a first version. */
export async function drawVersion(
  { notes, tracks }: Draft,
  { tempo, metre }: Pick<Partial<WriteRequest>, "tempo" | "metre">,
): Promise<boolean> {
  const project = store.project.value;
  if (!project) return false;
  const drawn = { notes: [...notes], tracks: [...tracks], tempo, metre };
  return take(await attempt(() => api.drawNotes(project.id, drawn)));
}

/** Show a version that was made by hand; false where there is none. */
async function take(version: Version | undefined): Promise<boolean> {
  if (!version) return false;
  takeVersion(version);
  await goTo(version.id);
  if (version.report) say("news", ...version.report.sentences);
  return true;
}

export async function download(what: "project" | "midi" | "wav"): Promise<void> {
  const project = store.project.value;
  const id = store.shownId.value;
  if (!project) return;
  const name = project.name || "piece";
  if (what === "project") {
    await attempt(() => api.download(api.projectFileAddress(project.id), `${name}.seqgen`));
  } else if (id) {
    const address = what === "midi" ? api.midiAddress : api.wavAddress;
    const ending = what === "midi" ? "mid" : "wav";
    await attempt(() => api.download(address(project.id, id), `${name}.${ending}`));
  }
}

export function moveCursor(by: number): void {
  const piece = store.piece.value;
  const bar = barAt(piece, store.cursor.value);
  store.cursor.value = barStart(piece, Math.max(0, bar + by));
}
