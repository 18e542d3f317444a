// The server's API without a server: projects live in this page, and a worker writes. Stands in for src/api/client.ts.

import type {
  Project,
  RunDetail,
  Setting,
  Surprise,
  Version,
  WriteRequest,
} from "../src/api/types";
import { EMPTY } from "../src/project/piece";
import { type Asked, type Given, marksOf, NOTHING, plan, Unknown } from "./asking";
import { tell } from "./events";
import { read } from "./files";
import { manifest, order, send, vocabulary } from "./machine";
import { midiBytes } from "./midi";
import { isMark, Reader } from "./reader";

export const hasServer = false;

export class ApiError extends Error {
  readonly status = 0;
}

const MOST_TOKENS_PER_BAR = 512;
const SEEDS = 2 ** 32;

interface Kept {
  version: Version;
  tokens: number[]; // BOS first
  nGiven: number;
  reader: Reader;
}

const kept = new Map<string, Kept>();
let count = 0;
let opened: Project | null = null;

const number = (
  name: string,
  label: string,
  help: string,
  [minimum, maximum, standard]: [number, number, number | null],
  type: Setting["type"] = "number",
): Setting => ({
  name,
  label,
  help,
  group: "sampling",
  type,
  minimum,
  maximum,
  default: standard,
  choices: [],
  separator: ",",
  by_bar: false,
});

const SETTINGS: Setting[] = [
  number(
    "temperature",
    "Temperature",
    "Lower is more predictable, higher more surprising; 0 takes the likeliest token.",
    [0, 2, 1],
  ),
  number(
    "top_k",
    "Top-k",
    "Choose among so many of the likeliest tokens.",
    [1, 1000, null],
    "integer",
  ),
  number(
    "top_p",
    "Top-p",
    "Choose among the likeliest tokens, up to this probability.",
    [0.05, 1, 1],
  ),
  number(
    "min_p",
    "Min-p",
    "Leave out tokens less likely than this share of the likeliest.",
    [0, 0.5, 0],
  ),
];

export async function readRun(): Promise<RunDetail> {
  const { name, step, unit, n_parameters, loss_bits } = manifest;
  return {
    ...{ id: name, name, step, unit, n_parameters, loss_bits },
    ...{ kind: "music", can: ["continue"], is_loaded: true, parts: [] },
    ...{ settings: [...SETTINGS, ...manifest.asking.settings] },
    ...{ instruments: [], has_losses: false, has_report: false },
  };
}

export async function createProject(): Promise<Project> {
  const run = {
    id: manifest.name,
    name: manifest.name,
    step: manifest.step,
    matches: true,
    message: null,
  };
  const created = new Date().toISOString();
  const project = { id: "page", name: manifest.name, created, run, current: null, versions: [] };
  opened = project;
  return opened;
}

export async function changeProject(
  _: string,
  change: { name?: string; current?: string },
): Promise<Project> {
  if (!opened) throw new ApiError("There is no project.");
  opened = { ...opened, ...change };
  return opened;
}

export async function write(_: string, request: WriteRequest): Promise<Version[]> {
  const parent = kept.get(request.parent ?? "");
  const bars = request.bars ?? 8;
  const { prompt, from, given } = beginning(parent, request, bars);
  const tempo = request.tempo ?? parent?.reader.piece().tempos[0]?.bpm ?? null;
  const seed = request.seed ?? Math.floor(Math.random() * SEEDS);
  const samples = request.samples ?? 1;
  const versions = Array.from({ length: samples }, (_, row) => {
    count += 1;
    const start = parent ? `From bar ${from + 1}` : "Beginning";
    const version = {
      ...{ id: `v${count}`, parent: parent?.version.id ?? null, seed, from_bar: from },
      ...{
        label: samples > 1 ? `${start} (${row + 1})` : start,
        created: new Date().toISOString(),
      },
      ...{ origin: "request", status: "writing", request: { ...request, seed }, findings: [] },
      ...{ log_likelihood_bits: null, bits_per_note: null, message: null, report: null },
      ...{ n_bars: 0, n_notes: 0 },
    } as unknown as Version;
    const reader = new Reader(manifest, vocabulary.names, prompt.length, tempo);
    for (const id of prompt) reader.take(id);
    const tokens = [...prompt];
    kept.set(version.id, { version, tokens, nGiven: prompt.length, reader });
    return version;
  });
  const ids = versions.map(({ id }) => id);
  const { temperature = 1, top_k = 0, top_p = 1, min_p = 0 } = request.sampling ?? {};
  order(ids, {
    ...{ prompt, given, rows: [], seed, sampling: { temperature, top_k, top_p, min_p } },
    ...{ bars: from + bars, maxTokens: bars * MOST_TOKENS_PER_BAR },
  });
  return versions;
}

interface Beginning {
  prompt: number[]; // tokens, BOS first
  from: number; // the bar that is the first new one
  given: Given;
}

/** The tokens before a bar, and its beginning; with what is asked of it and those behind it. */
function beginning(parent: Kept | undefined, request: WriteRequest, bars: number): Beginning {
  const asked: Asked = { asked: request.asked ?? {}, metre: request.metre ?? null, bars };
  const asks = asked.metre !== null || Object.keys(asked.asked).length > 0;
  const from = parent ? (request.from_bar ?? parent.reader.piece().bars.length - 1) : 0;
  const told = marksOf(manifest.asking, asked);
  const before = (parent?.tokens ?? [vocabulary.bos_id])
    .slice(0, parent?.reader.barTokens[from])
    .filter((id) => id !== vocabulary.eos_id && (told.has(id) || !isMark(vocabulary.names, id)));
  const given = asks ? planned(asked, before) : NOTHING;
  const isBegun = asks || parent !== undefined;
  const begun = isBegun ? [vocabulary.names.indexOf("Bar_None")] : [];
  return { prompt: [...before, ...begun, ...(given.openings[0] ?? [])], from, given };
}

function planned(asked: Asked, before: readonly number[]): Given {
  try {
    return plan(manifest.asking, asked, before, vocabulary.eos_id);
  } catch (error) {
    if (!(error instanceof Unknown)) throw error;
    const setting = manifest.asking.settings.find(({ name }) => name === error.setting);
    throw new ApiError(`${setting?.label}: “${error.word}” cannot be asked for. ${setting?.help}`);
  }
}

/** Take in what the worker has drawn. */
export function takeTokens(tokens: Record<string, number[]>): void {
  for (const [id, drawn] of Object.entries(tokens)) {
    const found = kept.get(id);
    if (!found) continue;
    for (const token of drawn) {
      found.reader.take(token);
      found.tokens.push(token);
    }
    tell("music", { id, from_note: 0, ...found.reader.piece() });
    update(found, {});
  }
}

export function finish(id: string, change: Partial<Version>, logLikelihood?: number): void {
  const found = kept.get(id);
  if (!found) return;
  const bits = logLikelihood === undefined ? null : -logLikelihood / Math.LN2;
  const written = found.reader.notes.filter((note) => note.kind === "written").length;
  const perNote = bits === null || written === 0 ? null : bits / written;
  update(found, { log_likelihood_bits: bits, bits_per_note: perNote, ...change });
}

function update(found: Kept, change: Partial<Version>): void {
  const { bars, notes } = found.reader.piece();
  found.version = { ...found.version, n_bars: bars.length - 1, n_notes: notes.length, ...change };
  tell("version", found.version);
}

export async function readVersion(_: string, id: string): Promise<Version> {
  const found = kept.get(id);
  if (!found) throw new ApiError("This version is not here any more.");
  return { ...found.version, piece: found.reader.notes.length ? found.reader.piece() : EMPTY };
}

export async function removeVersion(_: string, id: string): Promise<void> {
  send({ kind: "drop", id });
  kept.delete(id);
}

export async function readSoundfont(): Promise<ArrayBuffer> {
  if (!manifest.sound) throw new ApiError("The page was exported without a soundfont.");
  return read(manifest.sound);
}

export const midiAddress = (_: string, version: string) => version;

export async function download(version: string, name: string): Promise<void> {
  const piece = kept.get(version)?.reader.piece() ?? EMPTY;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([midiBytes(piece)], { type: "audio/midi" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// What only a server can do; the page offers none of it.
const refuse = (): never => {
  throw new ApiError("This needs the studio with its server: seqgen studio.");
};
export const readProject = async (): Promise<Project> => opened ?? refuse();
export const readSurprise = async (): Promise<Surprise> => refuse();
export const uploadMidi = async (): Promise<Version> => refuse();
export const openProjectFile = async (): Promise<Project> => refuse();
export const putNotes = async (): Promise<Version> => refuse();
export const drawNotes = async (): Promise<Version> => refuse();
export const projectFileAddress = refuse;
export const wavAddress = refuse;
