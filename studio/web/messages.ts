// What the page and its worker say to each other.

import type { Manifest, Vocabulary } from "./model";
import type { End, Order } from "./writer";

export type ToWorker =
  | { kind: "load"; base: string; manifest: Manifest; vocabulary: Vocabulary }
  | { kind: "write"; ids: string[]; order: Order }
  | { kind: "drop"; id: string };

export type FromWorker =
  | { kind: "ready" }
  | { kind: "failed"; message: string; ids: string[] } // no ids: the model could not be loaded
  | { kind: "tokens"; tokens: Record<string, number[]> } // by what they are of
  | { kind: "end"; id: string; reason: End; logLikelihood: number }
  | { kind: "speed"; tokens: number; seconds: number };
