// A small synthesizer of oscillators and noise, for machines without a soundfont.

import type { Track } from "../api/types";
import type { Voices } from "./voices";

interface Timbre {
  waves: readonly (readonly [OscillatorType, number, number])[]; // shape, ratio of pitch, loudness
  attack: number; // seconds
  decay: number; // seconds until a struck or plucked note has faded; 0: it is held
  brightness: number; // the filter's corner, in multiples of the pitch
}

const STRUCK: Timbre = {
  waves: [
    ["triangle", 1, 0.8],
    ["sine", 2, 0.22],
    ["sine", 3, 0.06],
  ],
  attack: 0.004,
  decay: 1.8,
  brightness: 7,
};
const PLUCKED: Timbre = { ...STRUCK, decay: 1.1, brightness: 5 };
const BASS: Timbre = {
  waves: [
    ["triangle", 1, 0.9],
    ["sine", 2, 0.25],
  ],
  attack: 0.008,
  decay: 1.4,
  brightness: 6,
};
const BOWED: Timbre = {
  waves: [
    ["sawtooth", 1, 0.28],
    ["sawtooth", 1.004, 0.2],
  ],
  attack: 0.09,
  decay: 0,
  brightness: 4,
};
const BLOWN: Timbre = {
  waves: [
    ["triangle", 1, 0.6],
    ["square", 1, 0.08],
  ],
  attack: 0.04,
  decay: 0,
  brightness: 6,
};

// The sixteen families of General MIDI, eight programs each.
const FAMILIES: readonly Timbre[] = [
  ...[STRUCK, STRUCK, BLOWN, PLUCKED, BASS, BOWED, BOWED, BLOWN],
  ...[BLOWN, BLOWN, BOWED, BOWED, BLOWN, PLUCKED, STRUCK, STRUCK],
];

const RELEASE = 0.12; // seconds
const MOST_AT_ONCE = 64;

export class PlainVoices implements Voices {
  private readonly output: GainNode;
  private readonly noise: AudioBuffer;
  private tracks: readonly Track[] = [];
  private sounding = new Set<AudioScheduledSourceNode>();
  private envelopes = new Map<string, GainNode>(); // of track and pitch: the last note

  constructor(
    private readonly context: AudioContext,
    destination: AudioNode,
  ) {
    const compressor = new DynamicsCompressorNode(context, { threshold: -18, ratio: 4 });
    this.output = new GainNode(context, { gain: 0.32 });
    this.output.connect(compressor).connect(destination);
    this.noise = context.createBuffer(1, context.sampleRate, context.sampleRate);
    const samples = this.noise.getChannelData(0);
    for (let i = 0; i < samples.length; i += 1) samples[i] = Math.random() * 2 - 1;
  }

  assign(tracks: readonly Track[]): void {
    this.tracks = tracks;
  }

  play(track: number, pitch: number, velocity: number, at: number, length: number): void {
    if (this.sounding.size > MOST_AT_ONCE * 3) return;
    const loudness = (velocity / 127) ** 1.6;
    const played = this.tracks[track];
    if (played?.is_drum) this.drum(pitch, loudness, at);
    else {
      const timbre = FAMILIES[(played?.program ?? 0) >> 3] ?? STRUCK;
      this.envelopes.set(`${track} ${pitch}`, this.tone(timbre, pitch, loudness, at, length));
    }
  }

  release(track: number, pitch: number): void {
    const gain = this.envelopes.get(`${track} ${pitch}`)?.gain;
    gain?.cancelScheduledValues(this.context.currentTime);
    gain?.setTargetAtTime(0, this.context.currentTime, RELEASE / 3);
  }

  silence(): void {
    for (const source of this.sounding) source.stop();
    this.sounding.clear();
  }

  private tone(
    timbre: Timbre,
    pitch: number,
    loudness: number,
    at: number,
    length: number,
  ): GainNode {
    const frequency = 440 * 2 ** ((pitch - 69) / 12);
    const envelope = new GainNode(this.context, { gain: 0 });
    const corner = Math.min(frequency * timbre.brightness * (0.5 + loudness), 12_000);
    const filter = new BiquadFilterNode(this.context, {
      type: "lowpass",
      frequency: corner,
      Q: 0.4,
    });
    filter.connect(envelope).connect(this.output);
    const end = at + Math.max(length, timbre.attack);
    envelope.gain.setValueAtTime(0, at);
    envelope.gain.linearRampToValueAtTime(loudness, at + timbre.attack);
    if (timbre.decay > 0) {
      envelope.gain.setTargetAtTime(0, at + timbre.attack, timbre.decay / 3);
    }
    envelope.gain.setTargetAtTime(0, end, RELEASE / 3);
    for (const [type, ratio, share] of timbre.waves) {
      if (frequency * ratio > this.context.sampleRate / 2) continue;
      const oscillator = new OscillatorNode(this.context, { type, frequency: frequency * ratio });
      oscillator.connect(new GainNode(this.context, { gain: share })).connect(filter);
      this.run(oscillator, at, end + RELEASE * 3);
    }
    return envelope;
  }

  private drum(pitch: number, loudness: number, at: number): void {
    const isKick = pitch === 35 || pitch === 36;
    const isSnare = pitch >= 37 && pitch <= 40;
    const isTom = [41, 43, 45, 47, 48, 50].includes(pitch);
    if (isKick) this.thump(110, 45, loudness * 1.4, at, 0.25);
    else if (isTom) this.thump(pitch * 4.5, pitch * 2.6, loudness, at, 0.3);
    else if (isSnare) {
      this.thump(190, 150, loudness * 0.5, at, 0.12);
      this.hiss(1800, loudness * 0.5, at, 0.16);
    } else {
      const rings = [46, 49, 51, 52, 53, 55, 57, 59].includes(pitch);
      this.hiss(7000, loudness * 0.3, at, rings ? 0.5 : 0.06);
    }
  }

  private thump(from: number, to: number, loudness: number, at: number, length: number): void {
    const oscillator = new OscillatorNode(this.context, { frequency: from });
    oscillator.frequency.setValueAtTime(from, at);
    oscillator.frequency.exponentialRampToValueAtTime(to, at + length / 2);
    oscillator.connect(this.fading(loudness, at, length));
    this.run(oscillator, at, at + length * 2);
  }

  private hiss(corner: number, loudness: number, at: number, length: number): void {
    const source = new AudioBufferSourceNode(this.context, { buffer: this.noise, loop: true });
    const filter = new BiquadFilterNode(this.context, { type: "highpass", frequency: corner });
    source.connect(filter).connect(this.fading(loudness, at, length));
    this.run(source, at, at + length * 2);
  }

  private fading(loudness: number, at: number, length: number): GainNode {
    const envelope = new GainNode(this.context, { gain: 0 });
    envelope.gain.setValueAtTime(loudness, at);
    envelope.gain.setTargetAtTime(0, at + 0.002, length / 4);
    envelope.connect(this.output);
    return envelope;
  }

  private run(source: AudioScheduledSourceNode, from: number, to: number): void {
    this.sounding.add(source);
    source.addEventListener("ended", () => this.sounding.delete(source));
    source.start(from);
    source.stop(to);
  }
}
