// Sound by an external synthesizer, through a MIDI output.

import type { Track } from "../api/types";
import { audio } from "../sound/output";
import { channelsOf, type Voices } from "../sound/voices";

const GAP = 0.004; // seconds between the end of a note and the next one on the same key

export class MidiVoices implements Voices {
  private channels: number[] = [];
  private endings = new Set<number>(); // timers

  constructor(private readonly output: MIDIOutput) {}

  assign(tracks: readonly Track[]): void {
    this.channels = channelsOf(tracks);
    for (const [index, track] of tracks.entries()) {
      if (!track.is_drum) this.output.send([0xc0 | this.channel(index), track.program]);
    }
  }

  play(track: number, pitch: number, velocity: number, at: number, length: number): void {
    const channel = this.channel(track);
    const wait = (at - audio().currentTime) * 1000;
    this.output.send([0x90 | channel, pitch, velocity], performance.now() + Math.max(0, wait));
    const end = wait + Math.max(length - GAP, GAP) * 1000;
    const timer = window.setTimeout(() => {
      this.endings.delete(timer);
      this.off(channel, pitch);
    }, end);
    this.endings.add(timer);
  }

  release(track: number, pitch: number): void {
    this.off(this.channel(track), pitch);
  }

  silence(): void {
    for (const timer of this.endings) window.clearTimeout(timer);
    this.endings.clear();
    for (let channel = 0; channel < 16; channel += 1) this.output.send([0xb0 | channel, 123, 0]);
  }

  private channel(track: number): number {
    return this.channels[track] ?? 0;
  }

  private off(channel: number, pitch: number): void {
    this.output.send([0x80 | channel, pitch, 0]);
  }
}
