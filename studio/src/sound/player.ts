// Plays what is shown, also while it is still being written: looks ahead on the audio clock and hands notes to the voices.

import { computed, effect, signal, untracked } from "@preact/signals";
import { barStart, byStart, firstFrom } from "../project/piece";
import * as store from "../project/store";
import { Clock, LOOK_AHEAD } from "./clock";
import { audio, voices } from "./output";

const TICK = 25; // milliseconds
const HIDDEN_LOOK_AHEAD = 1.5; // seconds; browsers call hidden pages once a second
const START = 0.06; // seconds from Play to the first note
const EPSILON = 1e-6; // quarters
const TAIL = 1.2; // seconds that the last notes may ring

export const playing = signal(false);
/** Playing has come to what is not written yet. */
export const waiting = signal(false);
export const speed = signal(1);
export const looping = signal(false);
export const muted = signal<ReadonlySet<number>>(new Set());
export const soloed = signal<ReadonlySet<number>>(new Set());
/** Notes handed to the voices since the page was opened. */
export const notesPlayed = signal(0);

const clock = new Clock();
let timer = 0;
let nextSecond = 0; // of the piece: up to here notes were handed over
let isFirst = false; // nothing was handed over since Play
let nextTime = 0; // of the audio clock: when nextSecond sounds

export function isHeard(track: number): boolean {
  return soloed.value.size > 0 ? soloed.value.has(track) : !muted.value.has(track);
}

/** The quarter that is heard now. */
export function position(): number {
  if (!playing.value) return store.cursor.value;
  const heard = audio().currentTime - (audio().outputLatency || 0);
  return Math.min(store.tempoMap.value.quarter(clock.at(heard)), store.piece.value.length);
}

export async function play(from: number = store.cursor.value): Promise<void> {
  await audio().resume();
  const piece = store.piece.value;
  const isOver = !store.isWriting.value && from >= piece.length - 1e-6;
  begin(isOver ? loopOr(0) : from);
}

function loopOr(quarter: number): number {
  return loopRange()?.from ?? quarter;
}

export function stop(): void {
  if (!playing.value) return;
  store.cursor.value = position();
  halt();
}

function halt(): void {
  window.clearInterval(timer);
  playing.value = false;
  waiting.value = false;
  voices().silence();
}

export function toggle(): void {
  if (playing.value) stop();
  else void play();
}

/** Go to a place; playing goes on from there. */
export function seek(quarter: number): void {
  store.cursor.value = Math.max(0, quarter);
  if (playing.value) begin(store.cursor.value);
}

function begin(quarter: number): void {
  window.clearInterval(timer);
  if (playing.value) voices().silence();
  voices().assign(store.piece.value.tracks);
  clock.reset();
  goOn(audio().currentTime + START, store.tempoMap.value.seconds(quarter));
  isFirst = true;
  playing.value = true;
  tick();
  timer = window.setInterval(tick, TICK);
}

function loopRange(): { from: number; to: number } | null {
  const bars = store.selection.value;
  const piece = store.piece.value;
  if (!looping.value) return null;
  if (!bars) return piece.notes.length > 0 ? { from: 0, to: barStart(piece, Infinity) } : null;
  return { from: barStart(piece, bars.from), to: barStart(piece, bars.to) };
}

function tick(): void {
  const now = audio().currentTime;
  const horizon = now + (document.hidden ? HIDDEN_LOOK_AHEAD : LOOK_AHEAD);
  for (;;) {
    const map = store.tempoMap.value;
    let from = map.quarter(nextSecond);
    const loop = loopRange();
    const isInLoop = loop !== null && from < loop.to - EPSILON;
    const end = Math.min(isInLoop ? loop.to : Infinity, writtenTo());
    if (from >= end - EPSILON) {
      if (store.isWriting.value) wait();
      else if (now > nextTime + TAIL) finish();
      return;
    }
    if (isFirst) {
      skipSilence(from);
      from = map.quarter(nextSecond);
    }
    if (nextTime >= horizon) return;
    if (waiting.value || nextTime < now) goOn(Math.max(nextTime, now + START / 3), nextSecond);
    const reach = map.quarter(nextSecond + (horizon - nextTime) * speed.value);
    const until = Math.min(Math.max(reach, from + EPSILON * 2), end);
    handOver(from, until);
    nextTime += (map.seconds(until) - nextSecond) / speed.value;
    nextSecond = map.seconds(until);
    if (isInLoop && until >= loop.to - EPSILON) goOn(nextTime, map.seconds(loop.from));
  }
}

/** Up to where nothing is added any more: while the piece is written, to the last bar that has begun. */
function writtenTo(): number {
  const { bars, length } = store.piece.value;
  return store.isWriting.value ? (bars.at(-2) ?? 0) : length;
}

/** A piece that begins in the middle of its first bar is heard at once. */
function skipSilence(from: number): void {
  isFirst = false;
  const first = byStart(store.piece.value.notes).notes[0]?.start ?? 0;
  if (from === 0 && first > 0) goOn(nextTime, store.tempoMap.value.seconds(first));
}

function wait(): void {
  if (!waiting.value) clock.set(nextTime, nextSecond, 0);
  waiting.value = true;
}

function goOn(time: number, second: number): void {
  waiting.value = false;
  nextTime = time;
  nextSecond = second;
  clock.set(time, second, speed.value);
}

function finish(): void {
  halt();
  store.cursor.value = loopOr(0);
}

function handOver(from: number, until: number): void {
  const map = store.tempoMap.value;
  const { notes } = byStart(store.piece.value.notes);
  const first = nextSecond;
  let count = 0;
  for (let i = firstFrom(notes, from); i < notes.length; i += 1) {
    const note = notes[i];
    if (!note || note.start >= until) break;
    if (!isHeard(note.track)) continue;
    const second = map.seconds(note.start);
    const length = (map.seconds(note.start + note.length) - second) / speed.value;
    const at = nextTime + (second - first) / speed.value;
    voices().play(note.track, note.pitch, note.velocity, at, length);
    count += 1;
  }
  if (count) notesPlayed.value += count;
}

// Another tempo holds from what is handed over next.
effect(() => {
  const value = speed.value;
  untracked(() => {
    if (playing.value && !waiting.value) clock.set(nextTime, nextSecond, value);
  });
});

// Another version is heard from the same place on, and a silenced track is silent at once.
let before = "";
effect(() => {
  const heard = [...muted.value, "solo", ...soloed.value].join();
  const now = `${store.shownId.value} ${heard}`;
  const changed = now !== before;
  before = now;
  untracked(() => {
    if (changed && playing.value) begin(position());
  });
});

// While a piece is written, tracks join it.
const programs = computed(() => JSON.stringify(store.piece.value.tracks));
effect(() => {
  programs.value;
  untracked(() => {
    if (playing.value) voices().assign(store.piece.value.tracks);
  });
});
