// The model: its files, and the worker that runs it.

import { signal } from "@preact/signals";
import { read } from "./files";
import type { FromWorker, ToWorker } from "./messages";
import { FORMAT, type Manifest, type Vocabulary } from "./model";
import type { Order } from "./writer";

export let manifest: Manifest;
export let vocabulary: Vocabulary;

/** Why nothing can be written here, in a sentence. */
export const trouble = signal<string | null>(null);
export const isReady = signal(false);
/** Tokens drawn by the last request, and the seconds they took. */
export const speed = signal({ tokens: 0, seconds: 0 });

let worker: Worker | null = null;
let waiting: ToWorker[] = []; // until the model is loaded

// A function that gives a vector: valid only where WebAssembly has SIMD.
const WITH_SIMD = [
  ...[0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0],
  ...[253, 15, 253, 98, 11],
];

export function troubleWithBrowser(): string | null {
  const hasSimd =
    typeof WebAssembly === "object" && WebAssembly.validate(Uint8Array.from(WITH_SIMD));
  if (hasSimd && typeof DecompressionStream === "function") return null;
  return "This browser cannot run the model: it lacks WebAssembly with SIMD, which Firefox has from version 113 on, Chrome and Edge from 91, and Safari from 16.4.";
}

/** Read the model's description and begin to load the rest. */
export async function load(take: (message: FromWorker) => void): Promise<void> {
  const found = await json<Manifest>("model/manifest.json");
  if (found.format !== FORMAT) {
    throw new Error(
      `This page reads models of format ${FORMAT}, and model/manifest.json has format ${found.format}: export the model again.`,
    );
  }
  manifest = found;
  vocabulary = await json<Vocabulary>("model/vocabulary.json");
  worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
    if (data.kind === "ready") {
      isReady.value = true;
      for (const message of waiting) worker?.postMessage(message);
      waiting = [];
    } else if (data.kind === "speed") {
      speed.value = data;
    } else take(data);
  };
  worker.onerror = (event) => {
    trouble.value = `The model could not be started: ${event.message || "its worker failed."}`;
  };
  worker.postMessage({ kind: "load", base: document.baseURI, manifest, vocabulary });
}

async function json<T>(address: string): Promise<T> {
  return JSON.parse(new TextDecoder().decode(await read(address)));
}

export function send(message: ToWorker): void {
  if (isReady.value) worker?.postMessage(message);
  else waiting.push(message);
}

export function order(ids: string[], order: Order): void {
  send({ kind: "write", ids, order });
}
