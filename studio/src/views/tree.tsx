// The tree of versions: where each came from, which one is the project's own, and the way back to any.

import { computed } from "@preact/signals";
import { hasServer } from "../api/client";
import type { Version } from "../api/types";
import { drop, goTo, tryOut } from "../project/actions";
import * as store from "../project/store";
import { type Branch, descendants, grow, pathTo, sideBySide } from "../project/tree";
import { mayLeave } from "../roll/draft";
import { answer, askedName, countMet, told, wasAsked } from "./findings";
import { Icon } from "./icons";

const trunk = computed(() => grow(store.versions.value));
const path = computed(
  () => new Set(pathTo(store.versions.value, store.project.value?.current ?? null)),
);

const canCompare = computed(() => {
  const version = store.shown.value;
  const group = version?.request ? sideBySide(store.versions.value, version) : [];
  return !store.comparing.value && group.length > 1;
});

function compare(): void {
  store.comparing.value = true;
}

export function VersionTree() {
  return (
    <section class="tree" aria-labelledby="versions">
      <h2 id="versions">Versions</h2>
      {trunk.value.length === 0 ? (
        <p class="empty">
          None yet. Press <strong>Play</strong> and the model begins
          {hasServer ? ", drop a MIDI file, or draw notes yourself" : ""}.
        </p>
      ) : (
        <Branches branches={trunk.value} />
      )}
      {canCompare.value && (
        <button type="button" onClick={compare}>
          Compare side by side
        </button>
      )}
      {store.shown.value && <Details version={store.shown.value} />}
    </section>
  );
}

/** A line of single versions stays at one depth; only where it divides, it is indented. */
function Branches({ branches }: { branches: readonly Branch[] }) {
  return (
    <ul>
      {branches.map((branch) => {
        const line = [branch];
        for (let last = branch; last.children.length === 1; ) {
          last = last.children[0] as Branch;
          line.push(last);
        }
        const end = line.at(-1) as Branch;
        return (
          <li key={branch.version.id}>
            {line.map(({ version }) => (
              <Node key={version.id} version={version} />
            ))}
            {end.children.length > 0 && <Branches branches={end.children} />}
          </li>
        );
      })}
    </ul>
  );
}

function Node({ version }: { version: Version }) {
  const isCurrent = store.project.value?.current === version.id;
  const isShown = store.shownId.value === version.id;
  const classes = [
    "node",
    isCurrent ? "current" : "",
    isShown ? "shown" : "",
    path.value.has(version.id) ? "on-path" : "",
  ];
  return (
    <div class={classes.join(" ")}>
      <button
        type="button"
        class="quiet"
        aria-current={isCurrent}
        title={isCurrent ? "The project's own version" : "Go to this version"}
        onClick={() => mayLeave() && void goTo(version.id)}
        onMouseDown={(event) => event.shiftKey && tryOut(version.id)}
      >
        <i class={`dot ${version.status}`} />
        <span>{version.label}</span>
        <small>{state(version)}</small>
      </button>
      <button
        type="button"
        class="quiet icon"
        aria-label={`Drop ${version.label}`}
        title="Drop, with what came from it"
        onClick={() => ask(version)}
      >
        <Icon name="close" />
      </button>
    </div>
  );
}

function state(version: Version): string {
  if (version.status === "writing") return "writing…";
  if (version.status === "failed") return "failed";
  if (wasAsked(version) && version.findings.length > 0) return countMet(version.findings);
  if (version.bits_per_note !== null) return `${version.bits_per_note.toFixed(2)} bits`;
  return version.n_bars === 1 ? "1 bar" : `${version.n_bars} bars`;
}

function ask(version: Version): void {
  const count = descendants(store.versions.value, version.id).length;
  const others = count === 1 ? "the version" : `the ${count} versions`;
  const isSure =
    count === 0 || window.confirm(`Drop “${version.label}” and ${others} that came from it?`);
  if (isSure) void drop(version.id);
}

/** What came of what was asked for. */
function Details({ version }: { version: Version }) {
  const findings = told(version);
  if (findings.length === 0 && !version.message) return null;
  return (
    <div class="details">
      {version.message && <p>{version.message}</p>}
      {findings.length > 0 && (
        <table>
          <caption>{wasAsked(version) ? "What you asked for" : "What is not as it was"}</caption>
          <tbody>
            {findings.map((finding) => (
              <tr key={finding.what}>
                <th scope="row">{finding.what}</th>
                <td>{askedName(version, finding)}</td>
                <td>{answer(finding)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </div>
  );
}
