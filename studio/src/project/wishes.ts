// What the next music shall be: the values beside the piano roll. Remembered in this browser for each run.

import { computed, effect, signal } from "@preact/signals";
import type { Setting, Task, WriteRequest } from "../api/types";
import * as store from "./store";

/** Of a number its value, of everything else a text, as the server takes them. */
export type Value = number | string;

export interface Wishes {
  bars: number;
  samples: number;
  seed: number | null;
  amount: number;
  add: string;
  form: string;
  best: boolean; // where something is asked for, draw several and keep those that fit best
  fromPlayhead: boolean; // continue from the bar line there, not from the end
  values: Record<string, Value>; // by the setting's name; what is absent is left to the model
}

const FIRST: Wishes = {
  bars: 8,
  samples: 4,
  seed: null,
  amount: 0.3,
  add: "",
  form: "",
  best: true,
  fromPlayhead: false,
  values: {},
};

const pickedTask = signal<Task>("continue");
/** The tasks that the run has been trained for, and that there is a piece for. */
export const tasks = computed<Task[]>(() => {
  const can = store.run.value?.can ?? [];
  const others: Task[] = store.shownId.value ? ["rewrite", "vary", "add"] : [];
  return ["continue", ...others.filter((name) => can.includes(name as (typeof can)[number]))];
});
export const task = computed<Task>(() =>
  tasks.value.includes(pickedTask.value) ? pickedTask.value : "continue",
);

export function pickTask(name: Task): void {
  pickedTask.value = name;
}

export const wishes = signal<Wishes>(FIRST);

export function wish(change: Partial<Wishes>): void {
  wishes.value = { ...wishes.value, ...change };
}

export function setValue(setting: Setting, value: Value | null): void {
  const values = { ...wishes.value.values };
  if (value === null) delete values[setting.name];
  else values[setting.name] = value;
  wish({ values });
}

// Settings that are fields of the request themselves.
const FIELDS = ["metre", "tempo", "guidance", "tries"] as const;

/** The chosen values, where a request has them. */
export function chosen(): Partial<WriteRequest> {
  const sampling: Record<string, number> = {};
  const asked: Record<string, string> = {};
  const fields: Record<string, Value> = {};
  for (const setting of store.run.value?.settings ?? []) {
    const value = wishes.value.values[setting.name];
    if (value === undefined) continue;
    if (FIELDS.some((field) => field === setting.name)) fields[setting.name] = value;
    else if (setting.group === "sampling") sampling[setting.name] = Number(value);
    else asked[setting.name] = String(value);
  }
  // They say how closely something is followed: the server refuses them where nothing is asked.
  if (!asks(asked)) delete fields.guidance;
  if (!asksOfBars(asked)) delete fields.tries;
  return { ...fields, sampling, asked };
}

/** New bars go on from others: they keep what these are in each setting that has an `open` value. */
export const continues = computed(() => task.value === "continue" && store.shownId.value !== null);

/** What continuations keep by themselves. */
export const keptSettings = computed(() =>
  (store.run.value?.settings ?? []).filter((setting) => setting.open != null),
);

/** Whether anything is asked of the music; what is left open is not. */
export function asks(asked: Readonly<Record<string, string>>): boolean {
  const isOpen = (name: string, value: string) =>
    keptSettings.value.some((setting) => setting.name === name && setting.open === value);
  return Object.entries(asked).some(([name, value]) => !isOpen(name, value));
}

export const asksSomething = computed(() => asks(chosen().asked ?? {}));

/** What is asked of single bars, or of whole pieces. */
function askedOf(what: "bars" | "pieces", asked: Readonly<Record<string, string>>) {
  const ofBars = (name: string) =>
    (store.run.value?.settings ?? []).some((setting) => setting.name === name && setting.by_bar);
  const is = what === "bars";
  return Object.fromEntries(Object.entries(asked).filter(([name]) => ofBars(name) === is));
}

const asksOfBars = (asked: Readonly<Record<string, string>>) => asks(askedOf("bars", asked));

/** Whether what is asked is met by several pieces rather than by several tries of each bar. */
export const asksOfPieces = computed(() => {
  const { asked = {}, tries } = chosen();
  return asks(tries === 1 ? asked : askedOf("pieces", asked));
});

const place = (run: string) => `seqgen studio wishes ${run}`;
let remembered = ""; // the run whose wishes these are

effect(() => {
  const run = store.project.value?.run.id;
  if (!run || run === remembered) return;
  remembered = run;
  wishes.value = { ...FIRST, ...read(place(run)) };
});

effect(() => {
  const text = JSON.stringify(wishes.value);
  if (remembered) localStorage.setItem(place(remembered), text);
});

function read(name: string): Partial<Wishes> {
  try {
    return JSON.parse(localStorage.getItem(name) ?? "{}");
  } catch {
    return {};
  }
}
