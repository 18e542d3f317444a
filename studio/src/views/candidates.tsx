// Several continuations side by side: hear each, keep one, drop what is not wanted.

import { effect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Version } from "../api/types";
import { drop, goTo, keepOnly, tryOut } from "../project/actions";
import { barStart, EMPTY } from "../project/piece";
import { startOrPlay } from "../project/playing";
import * as store from "../project/store";
import { paintSmall, sizeToBox } from "../roll/overview";
import { palette } from "../roll/palette";
import { playing, seek, stop } from "../sound/player";
import { Findings } from "./findings";
import { Icon } from "./icons";

export function Candidates() {
  const group = store.candidates.value;
  if (group.length === 0) return null;
  const best = bestOf(group);
  const shown = group.findIndex((version) => version.id === store.shownId.value) + 1;
  return (
    <section class="candidates" aria-label="Side by side">
      <ol>
        {group.map((version, index) => (
          <Card
            key={version.id}
            version={version}
            number={index + 1}
            isBest={version.id === best}
          />
        ))}
      </ol>
      <div class="beside">
        <button
          type="button"
          class="quiet icon"
          aria-label="Close the comparison"
          title="Close; the versions stay in the tree"
          onClick={() => {
            store.comparing.value = false;
          }}
        >
          <Icon name="close" />
        </button>
        <button
          type="button"
          class="quiet"
          title={`Keep ${shown}, drop the others`}
          onClick={() => void keepOnly(group[shown - 1]?.id ?? "")}
        >
          Keep only {shown}
        </button>
      </div>
    </section>
  );
}

function bestOf(group: readonly Version[]): string | null {
  const rated = group.filter((version) => version.bits_per_note !== null);
  if (rated.length < group.length) return null;
  const sorted = [...rated].sort((a, b) => (a.bits_per_note ?? 0) - (b.bits_per_note ?? 0));
  return sorted[0]?.id ?? null;
}

function Card({ version, number, isBest }: { version: Version; number: number; isBest: boolean }) {
  const isShown = store.shownId.value === version.id;
  const isHeard = isShown && playing.value;
  return (
    <li class={`card ${isShown ? "shown" : ""}`} aria-current={isShown}>
      <button
        type="button"
        class="quiet picture"
        aria-label={`Show ${number}`}
        title={`Show (${number})`}
        onClick={() => tryOut(version.id)}
      >
        <Picture version={version} />
        <strong>{number}</strong>
      </button>
      <p class="card-head">
        <Likelihood version={version} isBest={isBest} />
        <Findings version={version} />
      </p>
      <p class="card-buttons">
        <button
          type="button"
          aria-label={isHeard ? "Stop" : `Hear ${number}`}
          onClick={() => hear(version)}
        >
          <Icon name={isHeard ? "stop" : "play"} /> {isHeard ? "Stop" : "Hear"}
        </button>
        <button
          type="button"
          class="primary"
          aria-label={`Keep ${number}`}
          title="Keep (K)"
          onClick={() => void goTo(version.id)}
        >
          Keep
        </button>
        <button
          type="button"
          class="quiet icon"
          aria-label={`Drop ${number}`}
          title="Drop (X)"
          onClick={() => void drop(version.id)}
        >
          <Icon name="close" />
        </button>
      </p>
    </li>
  );
}

/** Hear a version from where it differs. */
function hear(version: Version): void {
  if (store.shownId.value === version.id && playing.value) {
    stop();
    return;
  }
  tryOut(version.id);
  seek(branchOf(version));
  if (!playing.value) void startOrPlay();
}

function branchOf(version: Version): number {
  const piece = store.pieces.value.get(version.id) ?? EMPTY;
  return version.from_bar === null ? 0 : barStart(piece, version.from_bar);
}

function Likelihood({ version, isBest }: { version: Version; isBest: boolean }) {
  if (version.status === "writing")
    return <span>{version.message ?? `writing… ${version.n_bars} bars`}</span>;
  if (version.status !== "done") return <span>{version.status}</span>;
  if (version.bits_per_note === null) return null;
  return (
    <span title="How likely the model finds it: fewer bits per note are likelier, more are more surprising">
      {version.bits_per_note.toFixed(2)} bits per note{isBest ? " · likeliest" : ""}
    </span>
  );
}

function Picture({ version }: { version: Version }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(
    () =>
      effect(() => {
        const element = canvas.current;
        const piece = store.pieces.value.get(version.id) ?? EMPTY;
        if (!element) return;
        sizeToBox(element);
        const context = element.getContext("2d") as CanvasRenderingContext2D;
        paintSmall(context, piece, palette.value, branchOf(version));
      }),
    [version.id, version.from_bar],
  );
  return <canvas ref={canvas} />;
}
