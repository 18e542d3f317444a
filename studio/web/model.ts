// What `seqgen export --web` writes beside the page: manifest.json and vocabulary.json.

import type { Setting } from "../src/api/types";

export interface Manifest {
  format: number;
  name: string;
  about: string[]; // sentences: what it is, what it learned from, under which licences
  n_parameters: number;
  step: number;
  unit: string;
  loss_bits: number | null;
  tempo: number; // quarter notes per minute, where tokens have none
  velocity: number; // where tokens have none
  positions_per_beat: number;
  max_positions: number | null;
  parts: Part[];
  state: Record<string, StatePart>;
  sound: string | null; // the file of a soundfont
  asking: Asking;
}

/** What can be asked for, as seqgen/export/controls.py explains it. */
export interface Asking {
  settings: Setting[];
  metres: Word[];
  controls: Control[];
}

export type Word = [text: string, id: number];

export interface Control {
  name: string;
  words: Word[];
  reads: "one" | "by bar" | "together" | "countdown";
  separator: string | null;
  open: Word | null;
  every: number | null;
  parts: number[];
}

/** A part of the music; `token` names it in Part tokens, "" where it is the only one. */
export interface Part {
  token: string;
  name: string;
  program: number;
  is_drum: boolean;
}

export interface StatePart {
  type: "float32" | "int64";
  shape: (number | "rows")[];
}

export interface Grammar {
  first: number[];
  last: number[];
  follows: number[][];
  units: number[];
  needs: number[][];
  sets: number[][];
}

export interface Vocabulary {
  names: string[];
  bos_id: number;
  eos_id: number;
  pad_id: number;
  grammar: Grammar | null;
  held: number[][];
}

export const FORMAT = 2; // of the manifest, as seqgen/export/web.py writes it
