// Random numbers exactly as NumPy's `default_rng([...seed, block]).random(BLOCK)` gives them: a seed sequence and PCG64.
// seqgen/sampling/series.py draws from the same series.

const BLOCK = 256; // draws whose numbers are made at once

const POOL = 4; // words of a seed sequence
const MASK = (1n << 128n) - 1n;
const MULTIPLIER = 0x2360ed051fc65da44385df649fccf645n;

/** The random numbers of one stream: number n depends on the seed and n alone. */
export class Series {
  private numbers = new Float64Array(0);
  private block = -1;

  constructor(private readonly seed: readonly number[]) {}

  at(draw: number): number {
    const block = Math.floor(draw / BLOCK);
    if (block !== this.block) {
      this.numbers = uniform([...this.seed, block], BLOCK);
      this.block = block;
    }
    return this.numbers[draw % BLOCK] as number;
  }
}

/** The first `count` numbers in [0, 1) of NumPy's default generator with this seed. */
export function uniform(seed: readonly number[], count: number): Float64Array<ArrayBuffer> {
  const [a, b, c, d] = words64(mix(seed.flatMap(words32)));
  const increment = ((((c as bigint) << 64n) | (d as bigint)) << 1n) | 1n;
  const advance = (state: bigint) => (state * MULTIPLIER + increment) & MASK;
  let state = advance((increment + (((a as bigint) << 64n) | (b as bigint))) & MASK);
  const numbers = new Float64Array(count);
  for (let i = 0; i < count; i += 1) {
    state = advance(state);
    const folded = ((state >> 64n) ^ state) & 0xffffffffffffffffn;
    const turn = state >> 122n;
    const turned = ((folded >> turn) | (folded << (64n - turn))) & 0xffffffffffffffffn;
    numbers[i] = Number(turned >> 11n) / 2 ** 53;
  }
  return numbers;
}

/** A whole number as words of 32 bits, the lowest first. */
function words32(value: number): number[] {
  const words = [value >>> 0];
  for (let rest = Math.floor(value / 2 ** 32); rest > 0; rest = Math.floor(rest / 2 ** 32)) {
    words.push(rest >>> 0);
  }
  return words;
}

/** The pool of NumPy's SeedSequence. */
function mix(entropy: readonly number[]): number[] {
  let constant = 0x43b0d7e5;
  const hash = (value: number) => {
    const mixed = (value ^ constant) >>> 0;
    constant = Math.imul(constant, 0x931e8875) >>> 0;
    const product = Math.imul(mixed, constant) >>> 0;
    return (product ^ (product >>> 16)) >>> 0;
  };
  const combine = (x: number, y: number) => {
    const sum = (Math.imul(x, 0xca01f9dd) - Math.imul(y, 0x4973f715)) >>> 0;
    return (sum ^ (sum >>> 16)) >>> 0;
  };
  const pool = Array.from({ length: POOL }, (_, i) => hash(entropy[i] ?? 0));
  for (let from = 0; from < POOL; from += 1) {
    for (let to = 0; to < POOL; to += 1) {
      if (from !== to) pool[to] = combine(pool[to] as number, hash(pool[from] as number));
    }
  }
  for (const word of entropy.slice(POOL)) {
    for (let to = 0; to < POOL; to += 1) pool[to] = combine(pool[to] as number, hash(word));
  }
  return pool;
}

/** The four words of 64 bits that a seed sequence gives to PCG64. */
function words64(pool: readonly number[]): bigint[] {
  let constant = 0x8b51f9dd;
  const words = Array.from({ length: 8 }, (_, i) => {
    const mixed = ((pool[i % POOL] as number) ^ constant) >>> 0;
    constant = Math.imul(constant, 0x58f38ded) >>> 0;
    const product = Math.imul(mixed, constant) >>> 0;
    return BigInt((product ^ (product >>> 16)) >>> 0);
  });
  return [0, 2, 4, 6].map((i) => ((words[i + 1] as bigint) << 32n) | (words[i] as bigint));
}
