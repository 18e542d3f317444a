// Turns tokens into music: bars, notes, time signatures, tempos. seqgen/tokenizers/midi does the same in Python.

import type { Note, Piece } from "../src/api/types";
import type { Manifest } from "./model";

const APART = new Set(["Bar", "TimeSig", "TempoPosition", "Tempo", "Part"]); // no music of a part
const MARKS = new Set(["Given", "Held", "Answer"]); // of what is asked
const SPECIAL = new Set(["PAD", "BOS", "EOS"]);

interface Plain {
  kind: string;
  value: string;
}

/** Whether a token tells what is asked, and no music. */
export const isMark = (names: readonly string[], id: number) =>
  MARKS.has((names[id] as string).split("_")[0] as string);

/** Reads a stream of tokens from its beginning. */
export class Reader {
  /** The bars that have begun, by their first token. */
  readonly barTokens: number[] = [];
  readonly notes: (Note & { part: number })[] = [];
  readonly metres: Piece["metres"] = [];
  readonly tempos: Piece["tempos"] = [];
  private readonly bars: number[] = [];
  private nTokens = 0;
  private barStart = 0; // quarters
  private quartersPerBar = 4;
  private quartersPerBeat = 1;
  private onset = 0;
  private part = 0;
  private pitch: number | null = null;
  private velocity: number;
  private music = new Map<string, Plain[]>(); // by bar and part, for quotes of it

  constructor(
    private readonly manifest: Manifest,
    private readonly names: readonly string[],
    private readonly nGiven = 0, // tokens that are not the model's own
    private readonly tempo: number | null = null, // with which the piece begins, if not as told
  ) {
    this.velocity = manifest.velocity;
    this.part = this.partOf("");
  }

  get nBars(): number {
    return this.bars.length;
  }

  take(id: number): void {
    for (const name of (this.names[id] as string).split("+")) {
      const cut = name.indexOf("_");
      const plain = { kind: name.slice(0, cut), value: name.slice(cut + 1) };
      if (plain.kind === "Quote") this.quote(Number(plain.value));
      else this.read(plain);
    }
    this.nTokens += 1;
  }

  /** What has been read, up to its last note. */
  piece(): Piece {
    const used = [...new Set(this.notes.map((note) => note.part))].sort((a, b) => a - b);
    const end = this.notes.reduce((latest, note) => Math.max(latest, note.start + note.length), 0);
    const last = this.notes.reduce((latest, note) => Math.max(latest, note.start), 0);
    const bars = this.bars.filter((start) => start <= last);
    const faster = this.tempo && this.tempos[0] ? this.tempo / this.tempos[0].bpm : 1;
    const length = bars.length
      ? (this.bars[bars.length] ?? this.barStart + this.quartersPerBar)
      : 0;
    return {
      tracks: used.map((part) => {
        const { name, program, is_drum } = this.manifest.parts[part] as Manifest["parts"][number];
        return { name, program, is_drum };
      }),
      notes: this.notes.map(({ part, ...note }) => ({ ...note, track: used.indexOf(part) })),
      bars: [...bars, length],
      metres: this.metres.filter(({ start }) => start <= last),
      tempos: this.tempos
        .filter(({ start }) => start <= last)
        .map(({ start, bpm }) => ({ start, bpm: bpm * faster })),
      length: Math.max(length, end),
    };
  }

  private read(plain: Plain): void {
    if (MARKS.has(plain.kind) || SPECIAL.has(plain.kind)) return;
    if (!APART.has(plain.kind)) this.remember(plain);
    const { value } = plain;
    switch (plain.kind) {
      case "Bar":
        this.beginBar();
        break;
      case "TimeSig":
        this.setMetre(value);
        break;
      case "Position":
      case "TempoPosition":
        this.onset =
          this.barStart + (Number(value) / this.manifest.positions_per_beat) * this.quartersPerBeat;
        break;
      case "Tempo":
        this.setTempo(Number(value));
        break;
      case "Part":
      case "Program":
        this.part = this.partOf(value);
        break;
      case "Pitch":
      case "PitchDrum":
        this.pitch = Number(value);
        break;
      case "Velocity":
        this.velocity = Number(value);
        break;
      case "Duration":
        this.addNote(value);
        break;
    }
  }

  private beginBar(): void {
    if (this.bars.length > 0) this.barStart += this.quartersPerBar;
    this.bars.push(this.barStart);
    this.barTokens.push(this.nTokens);
    this.onset = this.barStart;
    if (this.manifest.parts.length > 1) this.part = -1;
    if (this.metres.length === 0) this.metres.push({ start: 0, numerator: 4, denominator: 4 });
    if (this.tempos.length === 0) this.tempos.push({ start: 0, bpm: this.manifest.tempo });
  }

  private setMetre(value: string): void {
    const [numerator, denominator] = value.split("/").map(Number) as [number, number];
    this.quartersPerBeat = 4 / denominator;
    this.quartersPerBar = numerator * this.quartersPerBeat;
    const last = this.metres.at(-1);
    if (last?.start === this.barStart) this.metres.pop();
    const before = this.metres.at(-1);
    if (before?.numerator === numerator && before.denominator === denominator) return;
    this.metres.push({ start: this.barStart, numerator, denominator });
  }

  private setTempo(bpm: number): void {
    const last = this.tempos.at(-1);
    if (last?.start === this.onset) this.tempos.pop();
    if (this.tempos.at(-1)?.bpm !== bpm) this.tempos.push({ start: this.onset, bpm });
  }

  private partOf(value: string): number {
    return this.manifest.parts.findIndex(({ token }) => token === value);
  }

  private addNote(duration: string): void {
    if (this.pitch === null || this.part < 0) return;
    const [beats, fraction, resolution] = duration.split(".").map(Number) as [
      number,
      number,
      number,
    ];
    this.notes.push({
      track: 0,
      part: this.part,
      pitch: this.pitch,
      start: this.onset,
      length: (beats + fraction / resolution) * this.quartersPerBeat,
      velocity: this.velocity,
      kind: this.nTokens < this.nGiven ? "prompt" : "written",
      bits: null,
    });
    this.pitch = null;
  }

  private remember(plain: Plain): void {
    const place = this.placeOf(this.bars.length);
    const music = this.music.get(place);
    if (music) music.push(plain);
    else this.music.set(place, [plain]);
  }

  private placeOf(bar: number): string {
    return `${bar} ${this.part}`;
  }

  /** The part's music of so many bars ago once more, as far as it fits into this bar. */
  private quote(distance: number): void {
    if (this.music.has(this.placeOf(this.bars.length))) return;
    const music = this.music.get(this.placeOf(this.bars.length - distance)) ?? [];
    const positions =
      (this.quartersPerBar / this.quartersPerBeat) * this.manifest.positions_per_beat;
    for (const plain of [...music]) {
      if (plain.kind === "Position" && Number(plain.value) >= positions) return;
      this.read(plain);
    }
  }
}
