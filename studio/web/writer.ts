// Writes music token by token: runs the graph of a step, draws with the sampler, follows the grammar. Knows no page.

import type { Given } from "./asking";
import type { Manifest, StatePart, Vocabulary } from "./model";
import { Reader } from "./reader";
import { Place } from "./rules";
import { choose, logLikelihood, type Sampling } from "./sampler";
import { Series } from "./series";

/** What a step takes and gives, as onnxruntime-web has it. */
export interface Tensor {
  readonly data: unknown;
  readonly dims: readonly number[];
}
export interface Runtime {
  tensor(type: StatePart["type"], data: Float32Array | BigInt64Array, dims: number[]): Tensor;
  run(given: Record<string, Tensor>): Promise<Record<string, Tensor>>;
}

export interface Order {
  prompt: number[]; // tokens, BOS first; where something is asked, what is given of the first bar last
  given: Given;
  rows: number[]; // numbers of the samples, which their random numbers depend on
  seed: number;
  sampling: Sampling;
  bars: number; // stop where so many have ended, those of the prompt included
  maxTokens: number; // drawn
}

export type End = "eos" | "bars" | "length";

export interface Listener {
  token(row: number, id: number): void;
  end(row: number, reason: End, logLikelihood: number): void;
}

const NEVER = -1e6; // added to the logit of a token that must not be drawn

interface Row {
  number: number;
  pending: number;
  given: number[]; // what it takes next, without a draw
  place: Place;
  reader: Reader;
  series: Series;
  drawn: number;
  logLikelihood: number; // nats
}

type State = Record<string, Tensor>;

/** Several continuations of one prompt, written side by side. */
export class Writing {
  private waiting: number[] | null; // numbers of the rows until the prompt is read
  private live: Row[] = []; // from then on
  private state: State | null = null; // of the live rows; of one row until the prompt is read
  private position = 0;
  private barsBefore = 0; // bars of the prompt before the first that is written

  constructor(
    private readonly runtime: Runtime,
    private readonly manifest: Manifest,
    private readonly vocabulary: Vocabulary,
    private readonly order: Order,
    private readonly listener: Listener,
  ) {
    this.waiting = [...order.rows];
  }

  get isOver(): boolean {
    return (this.waiting ?? this.live).length === 0;
  }

  /** Take one step; return how many tokens were written. */
  async step(): Promise<number> {
    const { prompt } = this.order;
    const given = this.position < prompt.length - 1 ? [prompt[this.position] as number] : null;
    if (!given && this.waiting) this.begin(this.waiting);
    const { logits, state } = await this.advance(given ?? this.live.map((row) => row.pending));
    this.state = state;
    this.position += 1;
    return given ? 0 : this.write(logits);
  }

  /** No more of the rows with these numbers. */
  drop(numbers: readonly number[]): void {
    if (this.waiting) this.waiting = this.waiting.filter((number) => !numbers.includes(number));
    else this.keep((row) => !numbers.includes(row.number));
  }

  private begin(rows: readonly number[]): void {
    const { prompt, seed } = this.order;
    this.waiting = null;
    this.live = rows.map((number) => {
      const place = new Place(this.vocabulary);
      const reader = new Reader(this.manifest, this.vocabulary.names);
      for (const id of prompt) {
        reader.take(id);
        if (id !== this.vocabulary.bos_id) place.take(id);
      }
      const pending = prompt.at(-1) as number;
      const series = new Series([seed, number]);
      this.barsBefore = Math.max(reader.nBars - 1, 0);
      return { number, pending, given: [], place, reader, series, drawn: 0, logLikelihood: 0 };
    });
    this.state = this.mapState((_, part, tensor) => repeat(tensor, rowAxis(part), rows.length));
  }

  private async advance(tokens: number[]): Promise<{ logits: Float32Array; state: State }> {
    const { runtime } = this;
    const state = this.state ?? this.first();
    const ids = BigInt64Array.from(tokens, BigInt);
    const made = await runtime.run({
      tokens: runtime.tensor("int64", ids, [tokens.length, 1]),
      ...state,
    });
    const next = Object.keys(this.manifest.state).map((name) => [name, made[`new_${name}`]]);
    return { logits: made.logits?.data as Float32Array, state: Object.fromEntries(next) };
  }

  private write(logits: Float32Array): number {
    const { maxTokens, bars } = this.order;
    const width = this.vocabulary.names.length;
    const count = this.live.length;
    const ended = new Set<Row>();
    for (const [i, row] of this.live.entries()) {
      const own = logits.subarray(i * width, (i + 1) * width);
      const id = row.given.shift() ?? this.draw(row, own);
      row.pending = id;
      row.place.take(id);
      row.reader.take(id);
      this.listener.token(row.number, id);
      const reason = this.reasonToEnd(row, id, bars, maxTokens);
      if (!reason) continue;
      ended.add(row);
      this.listener.end(row.number, reason, row.logLikelihood);
    }
    if (ended.size > 0) this.keep((row) => !ended.has(row));
    return count;
  }

  /** Draw a token, and note what is given after it. */
  private draw(row: Row, logits: Float32Array): number {
    const { sampling, given } = this.order;
    const scores = logits.slice();
    for (const id of given.forbidden) scores[id] = (scores[id] as number) + NEVER;
    const id = choose(scores, row.place.allowed(), sampling, row.series.at(row.drawn));
    row.logLikelihood += logLikelihood(logits, id);
    row.drawn += 1;
    const begins = id === this.vocabulary.names.indexOf("Bar_None");
    const bar = row.reader.nBars - this.barsBefore; // if it begins one
    row.given = [...((begins ? given.openings[bar] : given.after[id]) ?? [])];
    return id;
  }

  private reasonToEnd(row: Row, id: number, bars: number, maxTokens: number): End | null {
    const limit = this.manifest.max_positions ?? Infinity;
    if (id === this.vocabulary.eos_id) return "eos";
    if (row.reader.nBars > bars) return "bars";
    return row.drawn >= maxTokens || this.position >= limit ? "length" : null;
  }

  private keep(isKept: (row: Row) => boolean): void {
    const places = [...this.live.keys()].filter((i) => isKept(this.live[i] as Row));
    if (places.length === this.live.length) return;
    this.live = places.map((i) => this.live[i] as Row);
    this.state = this.mapState((_, part, tensor) => take(tensor, rowAxis(part), places));
  }

  private first(): State {
    const shapes = Object.entries(this.manifest.state).map(([name, { type, shape }]) => {
      const dims = shape.map((size) => (size === "rows" ? 1 : size));
      const size = dims.reduce((product, dim) => product * dim, 1);
      const data = type === "float32" ? new Float32Array(size) : new BigInt64Array(size);
      return [name, this.runtime.tensor(type, data, dims)] as const;
    });
    return Object.fromEntries(shapes);
  }

  private mapState(change: (name: string, part: StatePart, tensor: Tensor) => Rows): State {
    const before = this.state ?? this.first();
    const after = Object.entries(this.manifest.state).map(([name, part]) => {
      const { data, dims } = change(name, part, before[name] as Tensor);
      return [name, this.runtime.tensor(part.type, data, dims)] as const;
    });
    return Object.fromEntries(after);
  }
}

type Numbers = Float32Array | BigInt64Array;
interface Rows {
  data: Numbers;
  dims: number[];
}

const rowAxis = (part: StatePart) => part.shape.indexOf("rows");

const repeat = (tensor: Tensor, axis: number, times: number) =>
  take(tensor, axis, new Array<number>(times).fill(0));

/** The rows with these places along an axis. */
function take(tensor: Tensor, axis: number, places: readonly number[]): Rows {
  const { dims } = tensor;
  const data = tensor.data as Numbers;
  const product = (sizes: readonly number[]) => sizes.reduce((a, b) => a * b, 1);
  const inner = product(dims.slice(axis + 1));
  const outer = product(dims.slice(0, axis));
  const size = outer * places.length * inner;
  const taken = data instanceof Float32Array ? new Float32Array(size) : new BigInt64Array(size);
  for (let i = 0; i < outer; i += 1) {
    for (const [j, place] of places.entries()) {
      const from = (i * (dims[axis] as number) + place) * inner;
      const row = data.subarray(from, from + inner);
      taken.set(row as never, (i * places.length + j) * inner);
    }
  }
  return { data: taken, dims: dims.map((dim, i) => (i === axis ? places.length : dim)) };
}
