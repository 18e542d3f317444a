// Keeps the store equal to the server: opens a project, takes in its events, fetches pieces.

import { effect } from "@preact/signals";
import { readProject, readRun, readVersion } from "../api/client";
import { listen } from "../api/events";
import type { Music, Piece, Project, ProjectState, Version } from "../api/types";
import { clear as clearHistory, visit } from "./history";
import { attempt, say } from "./notices";
import { EMPTY } from "./piece";
import * as store from "./store";
import { find, pathTo } from "./tree";

let stopListening = () => {};

/** Show the project that the page's address names; false where there is none. */
export async function openFromAddress(): Promise<boolean> {
  const id = decodeURIComponent(location.hash.slice(1));
  if (!id) return false;
  const opened = await attempt(() => readProject(id));
  if (opened) await show(opened);
  else history.replaceState(null, "", location.pathname);
  return opened !== undefined;
}

export async function show(opened: Project): Promise<void> {
  leave();
  store.project.value = opened;
  location.hash = opened.id;
  for (const id of pathTo(opened.versions, opened.current ?? null)) visit(id);
  store.shownId.value = opened.current ?? null;
  stopListening = listen(opened.id, {
    version: takeVersion,
    music: takeMusic,
    gone: ({ id }) => forget([id]),
    project: takeState,
    connected(again) {
      store.connected.value = true;
      if (again) void catchUp(opened.id);
    },
    lost: () => {
      store.connected.value = false;
    },
  });
  if (opened.run.message) say("news", opened.run.message);
  store.run.value = (await attempt(() => readRun(opened.run.id))) ?? null;
}

export function leave(): void {
  stopListening();
  clearHistory();
  store.project.value = null;
  store.run.value = null;
  store.pieces.value = new Map();
  store.shownId.value = null;
  store.comparing.value = false;
  store.selection.value = null;
  store.protectedTracks.value = new Set();
  store.cursor.value = 0;
  store.connected.value = true;
}

/** Take in what the server says of a version. Answers and events overtake each other: what is written is never unwritten. */
export function takeVersion({ piece, ...version }: Version): void {
  const project = store.project.value;
  if (!project || gone.has(version.id)) return;
  const known = find(project.versions, version.id);
  if (known && known.status !== "writing" && version.status === "writing") return;
  const versions = known
    ? project.versions.map((other) => (other.id === version.id ? version : other))
    : [...project.versions, version];
  store.project.value = { ...project, versions };
  if (piece) setPiece(version.id, piece);
  const notes = store.pieces.value.get(version.id)?.notes;
  if (version.status !== "writing" && notes && notes.length !== version.n_notes) {
    void fetchPiece(version.id);
  }
  if (version.status === "failed" && version.message) say("error", version.message);
}

/** What another page made the project's own is shown here, unless something else is being tried. */
function takeState({ id, name, current }: ProjectState): void {
  const project = store.project.value;
  if (project?.id !== id) return;
  const followed = store.shownId.value === project.current;
  store.project.value = { ...project, name, current };
  if (current && followed && current !== project.current) {
    visit(current);
    store.shownId.value = current;
  }
}

function takeMusic(music: Music): void {
  const before = store.pieces.value.get(music.id);
  const { id, from_note, notes, ...rest } = music;
  const kept = before?.notes.slice(0, from_note) ?? [];
  if (kept.length < from_note) void fetchPiece(id);
  else setPiece(id, { ...rest, notes: [...kept, ...notes] });
}

const gone = new Set<string>();

export function forget(ids: readonly string[]): void {
  for (const id of ids) gone.add(id);
  const project = store.project.value;
  if (!project) return;
  const versions = project.versions.filter((version) => !ids.includes(version.id));
  const pieces = new Map(store.pieces.value);
  for (const id of ids) pieces.delete(id);
  store.project.value = { ...project, versions };
  store.pieces.value = pieces;
  if (ids.includes(store.shownId.value ?? "")) store.shownId.value = project.current ?? null;
}

/** Take over what happened while no events came; what was begun since is newer than the answer. */
async function catchUp(id: string): Promise<void> {
  const before = store.versions.value.map((version) => version.id);
  const answer = await attempt(() => readProject(id));
  const now = store.project.value;
  if (!answer || now?.id !== id) return;
  const isOld = before.includes(now.current ?? "");
  store.project.value = {
    ...now,
    name: answer.name,
    current: isOld ? answer.current : now.current,
  };
  for (const version of answer.versions) takeVersion(version);
  const known = new Set(answer.versions.map((version) => version.id));
  forget(before.filter((version) => !known.has(version)));
  const pieces = new Map(store.pieces.value);
  for (const version of before) pieces.delete(version);
  store.pieces.value = pieces; // what is looked at is fetched anew
}

const asked = new Set<string>();

export async function fetchPiece(id: string): Promise<void> {
  const project = store.project.value;
  if (!project || asked.has(id) || gone.has(id)) return;
  asked.add(id);
  const version = await attempt(() => readVersion(project.id, id));
  asked.delete(id);
  if (!version || store.project.value?.id !== project.id) return;
  const known = find(store.versions.value, id);
  const isOld = version.status === "writing" && known && known.status !== "writing";
  if (isOld) await fetchPiece(id);
  else takeVersion({ ...version, piece: version.piece ?? EMPTY });
}

function setPiece(id: string, piece: Piece): void {
  store.pieces.value = new Map(store.pieces.value).set(id, piece);
}

// Whatever is looked at is fetched.
effect(() => {
  const wanted = [store.shownId.value, ...store.candidates.value.map((version) => version.id)];
  for (const id of wanted) {
    if (id && !store.pieces.value.has(id)) void fetchPiece(id);
  }
});
