// The start: choose a model, begin from nothing, with a MIDI file, or where one left off.

import { effect, signal } from "@preact/signals";
import { listProjects, listRuns, readRun, removeProject } from "../api/client";
import type { ProjectSummary, Run } from "../api/types";
import { begin, openKnown } from "../project/actions";
import { attempt } from "../project/notices";
import { chosenRun, musicalRuns, pickedRun, project, runs } from "../project/store";
import { chooseMidi, chooseProject } from "./files";
import { Icon } from "./icons";

const projects = signal<ProjectSummary[]>([]);

export async function loadStart(): Promise<void> {
  runs.value = (await attempt(listRuns)) ?? [];
  projects.value = (await attempt(listProjects)) ?? [];
}

// A chosen model is loaded by the server before it is needed.
effect(() => {
  if (!project.value && chosenRun.value) readRun(chosenRun.value).catch(() => {});
});

export function Start() {
  return (
    <main class="start">
      <h1>What shall we play?</h1>
      {musicalRuns.value.length > 0 && <Choose />}
      {runs.value?.length === 0 && (
        <p class="empty">
          There is no model yet. Train one with{" "}
          <code>python cli.py train configs/quickstart.yaml</code> and start the studio again.
        </p>
      )}
      <button type="button" class="drop" onClick={chooseMidi} disabled={!chosenRun.value}>
        <strong>Bring a MIDI file</strong>
        <span>Drop it here, or click to choose it. The model goes on from it.</span>
      </button>
      <Recent />
    </main>
  );
}

function Choose() {
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (chosenRun.value) void begin(chosenRun.value);
      }}
    >
      <fieldset class="runs">
        <legend>Model</legend>
        {musicalRuns.value.map((run) => (
          <label key={run.id} class="run">
            <input
              type="radio"
              name="run"
              checked={run.id === chosenRun.value}
              onChange={() => {
                pickedRun.value = run.id;
              }}
            />
            <span>
              <strong>{run.name}</strong>
              <small>{about(run)}</small>
            </span>
          </label>
        ))}
      </fieldset>
      <p class="actions">
        <button type="submit" class="primary large">
          Begin from nothing
        </button>
        <button type="button" class="quiet" onClick={chooseProject}>
          Open a saved project…
        </button>
      </p>
    </form>
  );
}

const ABILITIES: Partial<Record<Run["can"][number], string>> = {
  rewrite: "rewrites bars",
  vary: "varies bars",
  add: "adds parts",
  controls: "follows what you ask for",
  form: "plans a form",
};

function about(run: Run): string {
  const abilities = run.can.map((ability) => ABILITIES[ability]).filter(Boolean);
  const loss =
    run.loss_bits === null ? [] : [`loss ${run.loss_bits.toFixed(2)} bits per ${run.unit}`];
  return ["continues", ...abilities, ...loss].join(" · ");
}

const MOMENT = { dateStyle: "medium", timeStyle: "short" } as const;

function size({ n_versions }: ProjectSummary): string {
  if (n_versions === 0) return "empty";
  return n_versions === 1 ? "1 version" : `${n_versions} versions`;
}

function Recent() {
  if (projects.value.length === 0) return null;
  const remove = async ({ id, name }: ProjectSummary) => {
    if (!window.confirm(`Delete “${name}” with all its versions?`)) return;
    if (await attempt(() => removeProject(id))) {
      projects.value = projects.value.filter((project) => project.id !== id);
    }
  };
  return (
    <section class="recent" aria-labelledby="recent">
      <h2 id="recent">Go on with</h2>
      <ul>
        {projects.value.map((project) => (
          <li key={project.id}>
            <button type="button" class="quiet" onClick={() => void openKnown(project.id)}>
              <strong>{project.name}</strong>
              <small>
                {size(project)} · {new Date(project.created).toLocaleString([], MOMENT)}
              </small>
            </button>
            <button
              type="button"
              class="quiet icon"
              aria-label={`Delete ${project.name}`}
              onClick={() => void remove(project)}
            >
              <Icon name="close" />
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}
