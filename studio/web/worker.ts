// Runs the model outside the page's own thread, with onnxruntime-web on one thread.

import * as ort from "onnxruntime-web/wasm";
import { read } from "./files";
import type { FromWorker, ToWorker } from "./messages";
import type { Manifest, Vocabulary } from "./model";
import { type Order, type Runtime, Writing } from "./writer";

const TELL_EVERY = 60; // milliseconds between messages with tokens
const RUNTIME = "runtime.bin"; // WebAssembly
const GRAPH = "model/step-int8.bin";

interface Job {
  ids: string[];
  writing: Writing;
}

let runtime: Runtime;
let manifest: Manifest;
let vocabulary: Vocabulary;
let jobs: Job[] = [];
let isRunning = false;
let told: Record<string, number[]> = {};

const tell = (message: FromWorker) => postMessage(message);

self.onmessage = ({ data }: MessageEvent<ToWorker>) => {
  if (data.kind === "load") {
    ({ manifest, vocabulary } = data);
    load(data.base).then(
      () => tell({ kind: "ready" }),
      (error) => tell({ kind: "failed", message: sentence(error), ids: [] }),
    );
  } else if (data.kind === "write") {
    begin(data.ids, data.order);
  } else {
    for (const { ids, writing } of jobs) {
      const row = ids.indexOf(data.id);
      if (row >= 0) writing.drop([row]);
    }
  }
};

async function load(base: string): Promise<void> {
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = await read(new URL(RUNTIME, base));
  const graph = new Uint8Array(await read(new URL(GRAPH, base)));
  const session = await ort.InferenceSession.create(graph, { executionProviders: ["wasm"] });
  runtime = {
    tensor: (type, data, dims) => new ort.Tensor(type, data as never, dims),
    run: (given) => session.run(given as never),
  };
}

function begin(ids: string[], order: Order): void {
  const numbered = { ...order, rows: [...ids.keys()] };
  const writing = new Writing(runtime, manifest, vocabulary, numbered, {
    token(row, id) {
      const name = ids[row] as string;
      const tokens = told[name];
      if (tokens) tokens.push(id);
      else told[name] = [id];
    },
    end(row, reason, logLikelihood) {
      tellTokens();
      tell({ kind: "end", id: ids[row] as string, reason, logLikelihood });
    },
  });
  jobs.push({ ids, writing });
  if (!isRunning) void run();
}

function tellTokens(): void {
  if (Object.keys(told).length === 0) return;
  tell({ kind: "tokens", tokens: told });
  told = {};
}

/** Take steps of all jobs in turn until none is left. */
async function run(): Promise<void> {
  isRunning = true;
  let tokens = 0;
  let seconds = 0;
  let last = performance.now();
  while (jobs.length > 0) {
    for (const { ids, writing } of jobs) {
      const before = performance.now();
      try {
        const drawn = await writing.step();
        tokens += drawn;
        if (drawn > 0) seconds += (performance.now() - before) / 1000;
      } catch (error) {
        tell({ kind: "failed", message: sentence(error), ids });
        jobs = jobs.filter((job) => job.writing !== writing);
      }
    }
    jobs = jobs.filter(({ writing }) => !writing.isOver);
    if (performance.now() - last < TELL_EVERY) continue;
    last = performance.now();
    tellTokens();
    tell({ kind: "speed", tokens, seconds });
    await messages();
    jobs = jobs.filter(({ writing }) => !writing.isOver);
  }
  tell({ kind: "speed", tokens, seconds });
  isRunning = false;
}

/** Let messages come in. */
function messages(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

function sentence(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
