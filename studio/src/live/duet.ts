// Call and response: a bar of counting in, some bars for the person, then the model answers at the bar line, and so on.

import { signal } from "@preact/signals";
import { answerLive, lookAhead } from "../api/client";
import type { LiveAnswer, LivePlayed, Note, Track } from "../api/types";
import { drawVersion } from "../project/actions";
import { say } from "../project/notices";
import type { Draft } from "../project/piece";
import * as store from "../project/store";
import { chosen } from "../project/wishes";
import { audio, click, voices } from "../sound/output";
import { stop as stopPlayer } from "../sound/player";
import { listen, type Stroke } from "./devices";

const BEATS = 4; // a bar of 4/4
const LEAD = 0.1; // seconds before the bar line at which the answer is asked for
const SOON = 0.03; // seconds until what comes too late begins
const MEMORY = 16; // bars that the model is told
const LONGEST = 8; // seconds that a key sounds while it is held
const SHORTEST = 1 / 16; // quarters
const TRACKS: Track[] = [{ name: "You", program: 0, is_drum: false }];

export type Turn = "none" | "counting" | "yours" | "thinking" | "answer";

export const turn = signal<Turn>("none");
export const beat = signal(0); // of the bar, from 1
export const tempo = signal(100); // beats per minute
export const barsEach = signal(2);
/** What both have played, after the end; the model is the second track. */
export const played = signal<Draft | null>(null);
/** From asking for the answer to its first note, and to its last, in milliseconds. */
export const timings = signal<{ first: number; all: number } | null>(null);

let stopListening = () => {};
let count = 0; // of duets: answers to an earlier one are not played
let timers: number[] = [];
let told: Note[] = []; // what was played by both, in quarters from `origin`
let answers = new Set<Note>(); // those of the model
let model: Track = { name: "The model", program: 0, is_drum: false };
let origin = 0; // second of the audio clock
let turnStart = 0;
let held = new Map<number, { start: number; velocity: number }>();

const perBeat = () => 60 / tempo.value;
const quarters = (second: number) => (second - origin) / perBeat();

export async function start(): Promise<void> {
  stopPlayer();
  await audio().resume();
  voices().assign(TRACKS);
  count += 1;
  told = [];
  answers = new Set();
  played.value = null;
  held = new Map();
  timings.value = null;
  stopListening = listen(take);
  turn.value = "counting";
  const now = audio().currentTime + 0.2;
  countBar(now);
  origin = now + BEATS * perBeat();
  at(origin - 0.2, () => yourTurn(origin));
}

export function stop(): void {
  for (const timer of timers) window.clearTimeout(timer);
  timers = [];
  stopListening();
  voices().silence();
  voices().assign(store.piece.value.tracks);
  turn.value = "none";
  beat.value = 0;
  if (told.length === 0) return;
  const notes = told.map((note) => (answers.has(note) ? { ...note, track: 1 } : note));
  played.value = { notes, tracks: [...TRACKS, model] };
}

/** What both have played becomes a version of its own. */
export async function keepPlayed(): Promise<void> {
  if (played.value && (await drawVersion(played.value, { tempo: tempo.value })))
    played.value = null;
}

/** Call `act` at a second of the audio clock. */
function at(second: number, act: () => void): void {
  timers.push(window.setTimeout(act, (second - audio().currentTime) * 1000));
}

function countBar(from: number): void {
  for (let i = 0; i < BEATS; i += 1) {
    const second = from + i * perBeat();
    click(second, i === 0);
    at(second, () => {
      beat.value = i + 1;
    });
  }
}

function yourTurn(from: number): void {
  turnStart = from;
  turn.value = "yours";
  for (let bar = 0; bar < barsEach.value; bar += 1) countBar(from + bar * BEATS * perBeat());
  const end = from + barsEach.value * BEATS * perBeat();
  // On the second beat most keys of the bar before are let go.
  for (let bar = 0; bar < barsEach.value; bar += 1) {
    at(from + (bar * BEATS + 1) * perBeat(), () => tellSoFar(end));
  }
  at(end - LEAD, () => void askFor(end));
}

/** What the model is told of both for an answer at the bar line `end`. */
function toldUntil(end: number): LivePlayed | null {
  const run = store.run.value;
  const first = Math.max(0, Math.round(quarters(end) / BEATS) - MEMORY) * BEATS;
  const notes = told
    .filter((note) => note.start >= first)
    .map((note) => ({ ...note, start: note.start - first }));
  if (!run || notes.length === 0) return null;
  return { run: run.id, notes, tracks: TRACKS, tempo: tempo.value, metre: `${BEATS}/4` };
}

/** Let the model take in what is there, so that only the last notes remain for the answer. */
function tellSoFar(end: number): void {
  const soFar = toldUntil(end);
  if (soFar) lookAhead(soFar).catch(() => {}); // the answer says what is wrong
}

function take({ pitch, velocity }: Stroke): void {
  const now = audio().currentTime;
  const before = held.get(pitch);
  if (before) {
    voices().release(0, pitch);
    held.delete(pitch);
    if (turn.value === "yours") tell(pitch, before, now);
  }
  if (velocity > 0) {
    voices().play(0, pitch, velocity, now, LONGEST);
    held.set(pitch, { start: now, velocity });
  }
}

function tell(
  pitch: number,
  { start, velocity }: { start: number; velocity: number },
  end: number,
) {
  const from = Math.max(start, turnStart);
  told.push({
    track: 0,
    pitch,
    start: quarters(from),
    length: Math.max(SHORTEST, (end - from) / perBeat()),
    velocity,
    kind: "prompt",
    bits: null,
  });
}

async function askFor(end: number): Promise<void> {
  turn.value = "thinking";
  for (const [pitch, key] of held) tell(pitch, key, end);
  const request = toldUntil(end);
  if (!request) {
    yourTurn(end);
    return;
  }
  const asked = performance.now();
  const settings = { bars: barsEach.value, sampling: chosen().sampling ?? {}, seed: null };
  const session = count;
  let begin: number | null = null; // when the answer sounds
  const heard = new Set<string>();
  try {
    await answerLive({ ...request, ...settings, stream: true }, (answer) => {
      if (turn.value === "none" || session !== count) return;
      const all = performance.now() - asked;
      if (answer.piece.notes.length === 0) return;
      timings.value = { first: begin === null ? all : (timings.value?.first ?? all), all };
      begin ??= beginAnswer(end);
      respond(answer, begin, heard);
    });
    if (begin === null && turn.value === "thinking") yourTurn(end); // it answered with silence
  } catch (error) {
    if (session !== count) return;
    stop();
    say("error", error instanceof Error ? error.message : String(error));
  }
}

/** The model's turn begins at a bar line, or as soon as it can; returns when. */
function beginAnswer(barLine: number): number {
  turn.value = "answer";
  const begin = Math.max(barLine, audio().currentTime + SOON);
  origin += begin - barLine; // what came late moves all that follows
  for (let bar = 0; bar < barsEach.value; bar += 1) countBar(begin + bar * BEATS * perBeat());
  const next = begin + barsEach.value * BEATS * perBeat();
  at(next - 0.02, () => {
    voices().assign(TRACKS);
    yourTurn(next);
  });
  return begin;
}

/** Play what of an answer has not been `heard` yet. */
function respond({ piece, begin: barLine }: LiveAnswer, begin: number, heard: Set<string>): void {
  voices().assign(piece.tracks);
  const track = piece.notes[0] && piece.tracks[piece.notes[0].track];
  if (track) model = { ...track, name: model.name };
  for (const note of piece.notes) {
    const name = `${piece.tracks[note.track]?.name} ${note.pitch} ${note.start}`;
    if (heard.has(name)) continue;
    heard.add(name);
    const second = begin + (note.start - barLine) * perBeat();
    const now = audio().currentTime;
    const length = note.length * perBeat() - Math.max(0, now - second); // what came late is shorter
    if (length > 0) {
      voices().play(note.track, note.pitch, note.velocity, Math.max(second, now), length);
    }
    const own: Note = { ...note, track: 0, start: quarters(second), kind: "prompt" };
    told.push(own);
    answers.add(own);
  }
}
