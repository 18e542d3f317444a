// What turns notes into sound: a soundfont, plain oscillators, or a MIDI output.

import type { Track } from "../api/types";

export interface Voices {
  /** What each track is played with; called before its first note and when tracks change. */
  assign(tracks: readonly Track[]): void;
  /** Sound a note of a track at `at` for `length`, both in seconds of the audio clock. */
  play(track: number, pitch: number, velocity: number, at: number, length: number): void;
  /** End a note that sounds now, before its time. */
  release(track: number, pitch: number): void;
  /** Silence everything, also what is still to come. */
  silence(): void;
}

const DRUM_CHANNEL = 9;

/** The MIDI channel of each track: drums on 10, everything else on the other fifteen in turn. */
export function channelsOf(tracks: readonly Track[]): number[] {
  let next = 0;
  return tracks.map((track) => {
    if (track.is_drum) return DRUM_CHANNEL;
    const channel = next % 15;
    next += 1;
    return channel < DRUM_CHANNEL ? channel : channel + 1;
  });
}
