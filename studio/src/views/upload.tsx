// Bringing a MIDI file: which run goes on with it, and how many of its bars are the beginning.

import { useState } from "preact/hooks";
import { begin, bring } from "../project/actions";
import { chosenRun, project, runs } from "../project/store";
import { Dialog } from "./dialog";
import { broughtFile } from "./open";

export function UploadDialog() {
  const file = broughtFile.value;
  return file ? <Ask key={file.name} file={file} /> : null;
}

function Ask({ file }: { file: File }) {
  const [all, setAll] = useState(true);
  const [bars, setBars] = useState(8);
  const close = () => {
    broughtFile.value = null;
  };
  const submit = (event: Event) => {
    event.preventDefault();
    close();
    const prompt = all ? null : bars;
    const run = chosenRun.value;
    if (project.value) void bring(file, prompt);
    else if (run) void begin(run, file, prompt);
  };
  return (
    <Dialog title={`Begin with “${file.name}”`} onClose={close}>
      <form onSubmit={submit}>
        {!project.value && <p>The model “{runName()}” goes on with it.</p>}
        <fieldset>
          <legend>How much of it is the beginning?</legend>
          <label>
            <input type="radio" name="prompt" checked={all} onChange={() => setAll(true)} /> the
            whole piece
          </label>
          <label>
            <input type="radio" name="prompt" checked={!all} onChange={() => setAll(false)} /> the
            first{" "}
            <input
              type="number"
              min={1}
              max={1000}
              value={bars}
              aria-label="Number of bars"
              onFocus={() => setAll(false)}
              onInput={(event) => setBars(Math.max(1, event.currentTarget.valueAsNumber || 1))}
            />{" "}
            bars
          </label>
        </fieldset>
        <p class="actions">
          <button type="submit" class="primary">
            Bring it in
          </button>
        </p>
      </form>
    </Dialog>
  );
}

function runName(): string {
  return runs.value?.find((run) => run.id === chosenRun.value)?.name ?? "";
}
