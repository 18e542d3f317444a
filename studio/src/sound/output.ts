// Where sound goes: the audio clock, the volume, and the voices that play now.

import { effect, signal } from "@preact/signals";
import { readSoundfont } from "../api/client";
import * as store from "../project/store";
import { PlainVoices } from "./plain";
import type { Voices } from "./voices";

export const volume = signal(Number(localStorage.getItem("seqgen studio volume") ?? 0.8));
/** Why there are no sampled instruments, as the server says it; null where there are. */
export const missingSoundfont = signal<string | null>(null);
export const soundKind = signal<"loading" | "soundfont" | "plain">("loading");

let context: AudioContext | null = null;
let master: GainNode;
let plain: PlainVoices;
let chosen: Voices;
let midiOutput: Voices | null = null;

/** The audio clock; silent until the first click lets the browser play. */
export function audio(): AudioContext {
  if (!context) {
    context = new AudioContext({ latencyHint: "interactive" });
    master = new GainNode(context, { gain: volume.value ** 2 });
    master.connect(context.destination);
    plain = new PlainVoices(context, master);
    chosen = plain;
    void loadSoundfont(context);
  }
  return context;
}

// Loaded with the first click or key: earlier, browsers allow no sound.
for (const name of ["pointerdown", "keydown"]) {
  window.addEventListener(name, () => audio(), { once: true });
}

export function voices(): Voices {
  audio();
  return midiOutput ?? chosen;
}

async function loadSoundfont(context: AudioContext): Promise<void> {
  try {
    if (!context.audioWorklet) {
      throw new Error("This address is not secure, so the browser offers plain sounds only.");
    }
    const { SoundfontVoices } = await import("./soundfont"); // large, and not needed to begin
    const loaded = await SoundfontVoices.load(context, master, await readSoundfont());
    loaded.assign(store.piece.value.tracks);
    chosen = loaded;
    soundKind.value = "soundfont";
  } catch (error) {
    missingSoundfont.value = error instanceof Error ? error.message : String(error);
    soundKind.value = "plain";
  }
}

/** A metronome's click. */
export function click(at: number, isStrong: boolean): void {
  const oscillator = new OscillatorNode(audio(), { frequency: isStrong ? 1760 : 1320 });
  const envelope = new GainNode(audio(), { gain: 0 });
  envelope.gain.setValueAtTime(isStrong ? 0.25 : 0.14, at);
  envelope.gain.setTargetAtTime(0, at + 0.002, 0.015);
  oscillator.connect(envelope).connect(master);
  oscillator.start(at);
  oscillator.stop(at + 0.15);
}

/** Play through a MIDI output instead of the loudspeakers; null: back to them. */
export function playThrough(output: Voices | null): void {
  voices().silence();
  midiOutput = output;
  output?.assign(store.piece.value.tracks);
}

effect(() => {
  localStorage.setItem("seqgen studio volume", String(volume.value));
  if (context) master.gain.setTargetAtTime(volume.value ** 2, context.currentTime, 0.02);
});
