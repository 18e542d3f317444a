// The colours of the canvas, read from the style sheet (styles/colours.css), which knows light from dark.

import { signal } from "@preact/signals";
import type { Track } from "../api/types";

export interface Palette {
  background: string;
  blackKeys: string;
  text: string;
  muted: string;
  rule: string;
  faintRule: string;
  octave: string;
  prompt: string;
  accent: string;
  selection: string;
  whiteKey: string;
  blackKey: string;
  keyText: string;
  drums: string;
  tracks: string[];
  surprise: string[]; // from expected to surprising
}

const N_TRACK_COLOURS = 6;
const N_SURPRISE_COLOURS = 6;
const MOST_BITS = 10; // per note; more is as surprising as it gets

export const palette = signal(read());

export function reread(): void {
  palette.value = read();
}

function read(): Palette {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string) => style.getPropertyValue(`--${name}`).trim();
  const several = (name: string, n: number) =>
    Array.from({ length: n }, (_, i) => colour(`${name}-${i + 1}`));
  return {
    background: colour("roll"),
    blackKeys: colour("roll-black-keys"),
    text: colour("text"),
    muted: colour("muted"),
    rule: colour("rule"),
    faintRule: colour("faint-rule"),
    octave: colour("octave"),
    prompt: colour("prompt"),
    accent: colour("accent"),
    selection: colour("selection"),
    whiteKey: colour("white-key"),
    blackKey: colour("black-key"),
    keyText: colour("key-text"),
    drums: colour("drums"),
    tracks: several("track", N_TRACK_COLOURS),
    surprise: several("surprise", N_SURPRISE_COLOURS),
  };
}

/** The place of a track among the colours: drums have their own (0). */
export function colourNumber(tracks: readonly Track[], track: number): number {
  if (tracks[track]?.is_drum) return 0;
  const before = tracks.slice(0, track).filter((other) => !other.is_drum).length;
  return (before % N_TRACK_COLOURS) + 1;
}

export function trackColours(palette: Palette, tracks: readonly Track[]): string[] {
  const numbers = tracks.map((_, track) => colourNumber(tracks, track));
  return numbers.map((n) => (n === 0 ? palette.drums : (palette.tracks[n - 1] as string)));
}

export function surpriseColour(palette: Palette, bits: number): string {
  const step = Math.floor((bits / MOST_BITS) * N_SURPRISE_COLOURS);
  return palette.surprise[Math.max(0, Math.min(step, N_SURPRISE_COLOURS - 1))] as string;
}
