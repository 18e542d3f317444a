// For tests: answers a question from the file named first about what the page is made of. tests/export/test_web_parts.py asks.

import { readFileSync } from "node:fs";
import { type Asked, plan } from "./asking";
import { midiBytes } from "./midi";
import type { Manifest, Vocabulary } from "./model";
import { Reader } from "./reader";
import { Place } from "./rules";
import { choose, type Sampling } from "./sampler";
import { uniform } from "./series";
import { type Order, type Runtime, Writing } from "./writer";

interface Questions {
  seeds: number[][];
  draws: { logits: (number | null)[]; allowed: number[]; sampling: Sampling; number: number }[];
  vocabulary: Vocabulary;
  streams: number[][]; // tokens after BOS
  manifest: Manifest;
  graph: string | null; // a file
  asked: (Asked & { before: number[] })[];
  orders: (Order & { dropped: number[] })[]; // with rows that are dropped after the first step
}

const asked: Questions = JSON.parse(readFileSync(process.argv[2] as string, "utf8"));
const { vocabulary, manifest } = asked;

const series = asked.seeds.map((seed) => [...uniform(seed, 8)]);
const draws = asked.draws.map(({ logits, allowed, sampling, number }) =>
  choose(
    Float32Array.from(logits, (logit) => logit ?? Number.NaN),
    Uint8Array.from(allowed),
    sampling,
    number,
  ),
);
const allowed = asked.streams.map((tokens) => {
  const place = new Place(vocabulary);
  return tokens.map((id) => {
    const mask = [...place.allowed()].join("");
    place.take(id);
    return mask;
  });
});
const files = asked.streams.map((tokens) => {
  const reader = new Reader(manifest, vocabulary.names);
  for (const id of tokens) reader.take(id);
  return Buffer.from(midiBytes(reader.piece())).toString("base64");
});

const given = asked.asked.map((request) =>
  plan(manifest.asking, request, request.before, vocabulary.eos_id),
);

async function written(graph: string): Promise<number[][][]> {
  const ort = await import("onnxruntime-web/wasm");
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(readFileSync(graph));
  const runtime: Runtime = {
    tensor: (type, data, dims) => new ort.Tensor(type, data as never, dims),
    run: (given) => session.run(given as never),
  };
  const all: number[][][] = [];
  for (const order of asked.orders) {
    const tokens = order.rows.map((): number[] => []);
    const writing = new Writing(runtime, manifest, vocabulary, order, {
      token: (row, id) => void tokens[order.rows.indexOf(row)]?.push(id),
      end: () => {},
    });
    await writing.step();
    writing.drop(order.dropped);
    while (!writing.isOver) await writing.step();
    all.push(tokens);
  }
  return all;
}

const tokens = asked.graph ? await written(asked.graph) : null;
process.stdout.write(JSON.stringify({ series, draws, allowed, files, given, tokens }));
