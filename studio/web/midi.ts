// Writes a piece as a MIDI file of format 1.

import type { Piece, Track } from "../src/api/types";
import { channelsOf } from "../src/sound/voices";

const TICKS = 480; // per quarter note
const RELEASE = 0; // order of events at one tick
const SETTING = 1;
const STRIKE = 2;

interface Event {
  tick: number;
  order: number;
  bytes: number[];
}

export function midiBytes(piece: Piece): Uint8Array<ArrayBuffer> {
  const channels = channelsOf(piece.tracks);
  const tracks = [
    conductor(piece),
    ...piece.tracks.map((track, index) => instrument(piece, track, index, channels[index] ?? 0)),
  ].map(chunk);
  const header = [...text("MThd"), ...number(6, 4), ...number(1, 2), ...number(tracks.length, 2)];
  return Uint8Array.from([...header, ...number(TICKS, 2), ...tracks.flat()]);
}

function conductor(piece: Piece): Event[] {
  const metres = piece.metres.map(({ start, numerator, denominator }) =>
    event(start, SETTING, [0xff, 0x58, 4, numerator, Math.log2(denominator), 24, 8]),
  );
  const tempos = piece.tempos.map(({ start, bpm }) =>
    event(start, SETTING, [0xff, 0x51, 3, ...number(Math.round(60e6 / bpm), 3)]),
  );
  return [...metres, ...tempos];
}

function instrument(piece: Piece, track: Track, index: number, channel: number): Event[] {
  const name = [...new TextEncoder().encode(track.name)];
  const notes = piece.notes.filter((note) => note.track === index);
  return [
    event(0, SETTING, [0xff, 0x03, ...variable(name.length), ...name]),
    event(0, SETTING, [0xc0 | channel, track.program]),
    ...notes.flatMap(({ start, length, pitch, velocity }) => [
      event(start, STRIKE, [0x90 | channel, pitch, velocity]),
      event(start + length, RELEASE, [0x80 | channel, pitch, 64]),
    ]),
  ];
}

function event(quarter: number, order: number, bytes: number[]): Event {
  return { tick: Math.round(quarter * TICKS), order, bytes };
}

function chunk(events: Event[]): number[] {
  const sorted = [...events].sort((a, b) => a.tick - b.tick || a.order - b.order);
  const content: number[] = [];
  let before = 0;
  for (const { tick, bytes } of sorted) {
    content.push(...variable(tick - before), ...bytes);
    before = tick;
  }
  content.push(0, 0xff, 0x2f, 0);
  return [...text("MTrk"), ...number(content.length, 4), ...content];
}

const text = (word: string) => [...word].map((letter) => letter.charCodeAt(0));

function number(value: number, width: number): number[] {
  return Array.from({ length: width }, (_, i) => (value >>> (8 * (width - 1 - i))) & 0xff);
}

/** A number in seven bits per byte, the last without the high bit. */
function variable(value: number): number[] {
  const bytes = [value & 0x7f];
  for (let rest = value >>> 7; rest > 0; rest >>>= 7) bytes.unshift((rest & 0x7f) | 0x80);
  return bytes;
}
