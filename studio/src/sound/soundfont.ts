// Sampled instruments: the server's soundfont, played by spessasynth in an audio worklet.

import { WorkletSynthesizer } from "spessasynth_lib";
import processor from "spessasynth_lib/dist/spessasynth_processor.min.js?url";
import type { Track } from "../api/types";
import { LOOK_AHEAD } from "./clock";
import { channelsOf, type Voices } from "./voices";

const REVERB = 91; // a MIDI controller
const A_LITTLE = 40;
const GAP = 0.004; // seconds between the end of a note and the next one on the same key

const PATIENCE = 30_000; // milliseconds

function failAfter(milliseconds: number): Promise<never> {
  return new Promise((_, reject) => {
    const error = new Error("The soundfont could not be loaded in this browser.");
    window.setTimeout(() => reject(error), milliseconds);
  });
}

export class SoundfontVoices implements Voices {
  private channels: number[] = [];
  private endings = new Set<number>(); // timers: what the synthesizer was told cannot be taken back

  private constructor(
    private readonly context: AudioContext,
    private readonly synthesizer: WorkletSynthesizer,
    private readonly gate: GainNode,
  ) {}

  static async load(
    context: AudioContext,
    destination: AudioNode,
    soundfont: ArrayBuffer,
  ): Promise<SoundfontVoices> {
    await context.audioWorklet.addModule(processor);
    const synthesizer = new WorkletSynthesizer(context);
    await synthesizer.soundBankManager.addSoundBank(soundfont, "main");
    await Promise.race([synthesizer.isReady, failAfter(PATIENCE)]);
    const gate = new GainNode(context);
    synthesizer.connect(gate);
    gate.connect(destination);
    return new SoundfontVoices(context, synthesizer, gate);
  }

  assign(tracks: readonly Track[]): void {
    this.channels = channelsOf(tracks);
    for (const [index, track] of tracks.entries()) {
      const channel = this.channels[index] as number;
      this.synthesizer.programChange(channel, track.is_drum ? 0 : track.program);
      this.synthesizer.controllerChange(channel, REVERB, A_LITTLE);
    }
  }

  play(track: number, pitch: number, velocity: number, at: number, length: number): void {
    const channel = this.channels[track] ?? 0;
    this.synthesizer.noteOn(channel, pitch, velocity, { time: at });
    const end = at + Math.max(length - GAP, GAP);
    const wait = (end - LOOK_AHEAD - this.context.currentTime) * 1000;
    const timer = window.setTimeout(() => {
      this.endings.delete(timer);
      this.synthesizer.noteOff(channel, pitch, { time: end });
    }, wait);
    this.endings.add(timer);
  }

  release(track: number, pitch: number): void {
    this.synthesizer.noteOff(this.channels[track] ?? 0, pitch);
  }

  silence(): void {
    for (const timer of this.endings) window.clearTimeout(timer);
    this.endings.clear();
    this.synthesizer.stopAll(true);
    // Notes that were told ahead still begin: unheard, and stopped after the last of them.
    const now = this.context.currentTime;
    this.gate.gain.cancelScheduledValues(now);
    this.gate.gain.setValueAtTime(0, now);
    this.gate.gain.setValueAtTime(1, now + LOOK_AHEAD);
    window.setTimeout(() => this.synthesizer.stopAll(true), LOOK_AHEAD * 1000);
  }
}
