// Which token may follow: the grammar of vocabulary.json. seqgen/vocabulary.py says what its numbers mean.

import type { Vocabulary } from "./model";

const RESET = -1;
const KEEP = -2;
const FOLLOW = -3;
const LESS = -4;

/** Where a stream stands in the grammar. */
export class Place {
  previous: number;
  hasUnit: boolean;
  registers: Int32Array;

  constructor(private readonly vocabulary: Vocabulary) {
    this.previous = vocabulary.bos_id;
    this.hasUnit = vocabulary.grammar === null;
    this.registers = new Int32Array(vocabulary.grammar?.needs[0]?.length ?? 0).fill(RESET);
  }

  /** Take a token that was given or drawn. */
  take(id: number): void {
    const { grammar } = this.vocabulary;
    this.previous = id;
    if (!grammar) return;
    this.hasUnit ||= grammar.units[id] === 1;
    let changed = false; // this register or one before it
    for (let r = 0; r < this.registers.length; r += 1) {
      const before = this.registers[r] as number;
      const made = grammar.sets[id]?.[r] ?? KEEP;
      let value = before;
      if (made >= RESET) value = made;
      else if (made === LESS) value = before - 1;
      else if (made === FOLLOW && changed) value = RESET;
      changed ||= value !== before;
      this.registers[r] = value;
    }
  }

  /** Whether each token may come next; where none may, the end may. */
  allowed(): Uint8Array {
    const { grammar, names, bos_id, eos_id, pad_id } = this.vocabulary;
    const allowed = new Uint8Array(names.length).fill(1);
    if (grammar) {
      const follows = grammar.follows[grammar.last[this.previous] as number] as number[];
      for (let id = 0; id < allowed.length; id += 1) {
        allowed[id] = follows[grammar.first[id] as number] as number;
      }
      if (!this.hasUnit) allowed[eos_id] = 0;
    }
    allowed[bos_id] = 0;
    allowed[pad_id] = 0;
    if (!allowed.includes(1)) allowed[eos_id] = 1;
    for (let id = 0; grammar && id < allowed.length; id += 1) {
      const needs = grammar.needs[id] ?? [];
      if (needs.some((need, r) => need <= (this.registers[r] as number))) allowed[id] = 0;
    }
    if (!allowed.includes(1)) allowed[eos_id] = 1;
    return allowed;
  }
}
