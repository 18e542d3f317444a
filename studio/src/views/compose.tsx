// The panel beside the roll: what is written next, how much of it, and how.

import { computed } from "@preact/signals";
import { hasServer } from "../api/client";
import type { Setting, Task } from "../api/types";
import { absentParts, addedPart, lineAtCursor, stopWriting, write } from "../project/actions";
import { barsName } from "../project/piece";
import * as store from "../project/store";
import {
  asksOfPieces,
  keptSettings,
  pickTask,
  setValue,
  task,
  tasks,
  type Wishes,
  wish,
  wishes,
} from "../project/wishes";
import { isChanged } from "../roll/draft";
import { numberIn } from "./number";
import { SettingField } from "./setting";

const NAMES: Record<Task, string> = {
  continue: "Continue",
  rewrite: "Rewrite",
  vary: "Vary",
  add: "Add a part",
};

const anyIsWriting = computed(() =>
  store.versions.value.some((version) => version.status === "writing"),
);
/** Why nothing can be written yet is in the sentence above the button. */
const isLacking = computed(() => {
  if (task.value === "add") return addedPart.value === null;
  return (task.value === "rewrite" || task.value === "vary") && !store.selection.value;
});

export function Compose() {
  return (
    <form
      class="compose"
      aria-label="Write"
      onSubmit={(event) => {
        event.preventDefault();
        if (!isLacking.value && !isChanged.value) void write();
      }}
    >
      {tasks.value.length > 1 && <Tabs />}
      {task.value === "continue" && store.shownId.value && !isChanged.value ? (
        <>
          <From />
          <Kept />
        </>
      ) : (
        <p class="what" aria-live="polite">
          {sentence()}
        </p>
      )}
      <Amounts />
      <div class="write-row">
        <button
          id="write"
          type="submit"
          class="primary large"
          disabled={isLacking.value || isChanged.value}
        >
          {buttonText()}
        </button>
        {anyIsWriting.value && (
          <button type="button" onClick={() => void stopWriting()}>
            Stop
          </button>
        )}
      </div>
      {hasServer && asksOfPieces.value && <Best />}
      <Group title="How it chooses" group="sampling" />
      <Group title="What you ask for" group="controls" />
    </form>
  );
}

/** What is asked for is met more often by the best of several, which is known when all are drawn. */
function Best() {
  return (
    <label class="best">
      <input
        type="checkbox"
        checked={wishes.value.best}
        onChange={(event) => wish({ best: event.currentTarget.checked })}
      />
      <span>
        Draw more and keep what fits best
        <small>
          {wishes.value.best
            ? "The notes appear when all are drawn."
            : "The notes appear as they are written, fitting or not."}
        </small>
      </span>
    </label>
  );
}

function Tabs() {
  return (
    <fieldset class="tabs" aria-label="What to do">
      {tasks.value.map((name) => (
        <button
          key={name}
          type="button"
          aria-pressed={task.value === name}
          onClick={() => pickTask(name)}
        >
          {NAMES[name]}
        </button>
      ))}
    </fieldset>
  );
}

/** Where the music goes on: at the end, or at the bar line at the playhead. */
function From() {
  const line = lineAtCursor.value;
  const fromPlayhead = wishes.value.fromPlayhead && line !== null;
  return (
    <fieldset class="from" aria-label="From where">
      <label>
        <input
          type="radio"
          name="from"
          checked={!fromPlayhead}
          onChange={() => wish({ fromPlayhead: false })}
        />{" "}
        from the end
      </label>
      <label title="Put the playhead elsewhere, or click a bar line above the notes">
        <input
          type="radio"
          name="from"
          checked={fromPlayhead}
          disabled={line === null}
          onChange={() => wish({ fromPlayhead: true })}
        />{" "}
        {line === null ? "from the playhead" : `from bar ${line + 1}`}
      </label>
    </fieldset>
  );
}

/** What new bars keep of those before, unless it is set below or left open. */
function Kept() {
  if (keptSettings.value.length === 0) return null;
  return (
    <fieldset class="from" aria-label="Keep from the bars before">
      <span>Keep</span>
      {keptSettings.value.map((setting) => (
        <label
          key={setting.name}
          title="As in the eight bars before the new ones. Clear it to leave this to the model."
        >
          <input
            type="checkbox"
            checked={wishes.value.values[setting.name] === undefined}
            onChange={(event) =>
              setValue(setting, event.currentTarget.checked ? null : (setting.open ?? null))
            }
          />{" "}
          {setting.label.toLowerCase()}
        </label>
      ))}
    </fieldset>
  );
}

function sentence(): string {
  if (isChanged.value) return "Save or discard the notes that you have changed first.";
  const bars = store.selection.value;
  if (!store.shownId.value) return "A new piece, from nothing.";
  switch (task.value) {
    case "rewrite":
      return bars
        ? `${capital(barsName(bars))} anew.`
        : "Select the bars to rewrite: drag over them.";
    case "vary":
      return bars
        ? `Some of ${barsName(bars)} anew, the rest as it is.`
        : "Select the bars to vary: drag over them.";
    case "add":
      return addedPart.value === null
        ? "All parts that this model knows play already: rewrite one instead."
        : "One more part, for the bars that are there.";
    default:
      return "";
  }
}

const capital = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);

function buttonText(): string {
  const { samples } = wishes.value;
  const verb = store.shownId.value ? NAMES[task.value] : "Begin";
  return samples === 1 ? verb : `${verb} × ${samples}`;
}

function Amounts() {
  const begins = !store.shownId.value;
  const { form, amount } = wishes.value;
  const plansForm = begins && (store.run.value?.can.includes("form") ?? false);
  return (
    <div class="amounts">
      {task.value === "continue" && !(begins && form) && (
        <Whole name="bars" label="Bars" minimum={1} maximum={256} />
      )}
      <Whole name="samples" label="Versions" minimum={1} maximum={8} />
      <label>
        <span>Seed</span>
        <input
          type="number"
          min={0}
          value={wishes.value.seed ?? ""}
          placeholder="any"
          title="The same seed and settings write the same music"
          onInput={(event) => {
            const seed = numberIn(event.currentTarget);
            if (seed !== undefined) wish({ seed });
          }}
        />
      </label>
      {task.value === "vary" && (
        <label class="wide">
          <span>How much of it: {Math.round(amount * 100)} %</span>
          <input
            type="range"
            min={0.05}
            max={1}
            step={0.05}
            value={amount}
            onInput={(event) => wish({ amount: event.currentTarget.valueAsNumber })}
          />
        </label>
      )}
      {task.value === "add" && addedPart.value !== null && (
        <label class="wide">
          <span>Part</span>
          <select
            value={addedPart.value ?? ""}
            onChange={(event) => wish({ add: event.currentTarget.value })}
          >
            {absentParts.value.map((part) => (
              <option key={part.value} value={part.value}>
                {part.label}
              </option>
            ))}
          </select>
        </label>
      )}
      {plansForm && (
        <label class="wide">
          <span>Form, such as AABA</span>
          <input
            type="text"
            value={form}
            placeholder="none"
            onInput={(event) => wish({ form: event.currentTarget.value })}
          />
        </label>
      )}
    </div>
  );
}

interface WholeProps {
  name: "bars" | "samples";
  label: string;
  minimum: number;
  maximum: number;
}

function Whole({ name, label, minimum, maximum }: WholeProps) {
  return (
    <label>
      <span>{label}</span>
      <input
        type="number"
        min={minimum}
        max={maximum}
        value={wishes.value[name]}
        onInput={(event) => {
          const number = numberIn(event.currentTarget);
          const change: Partial<Wishes> = { [name]: number };
          if (number != null) wish(change);
        }}
        onBlur={(event) => {
          event.currentTarget.value = String(wishes.value[name]);
        }}
      />
    </label>
  );
}

function Group({ title, group }: { title: string; group: Setting["group"] }) {
  const settings = (store.run.value?.settings ?? []).filter((setting) => setting.group === group);
  if (settings.length === 0) return null;
  const changed = settings.filter((setting) => wishes.value.values[setting.name] !== undefined);
  return (
    <details class="settings">
      <summary>
        {title} {changed.length > 0 && <small>{changed.length} set</small>}
      </summary>
      {settings.map((setting) => (
        <SettingField key={setting.name} setting={setting} />
      ))}
    </details>
  );
}
