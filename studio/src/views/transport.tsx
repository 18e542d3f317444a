// The line at the bottom: play, where we are, loop, tempo, volume, and how the roll is seen.

import { useEffect, useRef } from "preact/hooks";
import { hasServer } from "../api/client";
import type { Piece } from "../api/types";
import { say } from "../project/notices";
import { barAt, barCount, placeName } from "../project/piece";
import { startOrPlay } from "../project/playing";
import * as store from "../project/store";
import {
  canEdit,
  discardEdits,
  finishEditing,
  grid,
  isChanged,
  isEditing,
  startEditing,
} from "../roll/draft";
import { fit, following, zoomBy } from "../roll/geometry";
import { isComputing, showsSurprise } from "../roll/surprise";
import { missingSoundfont, soundKind, volume } from "../sound/output";
import {
  looping,
  notesPlayed,
  playing,
  position,
  seek,
  speed,
  stop,
  waiting,
} from "../sound/player";
import { Icon } from "./icons";

export function Transport() {
  return (
    <section class="transport" aria-label="Playing">
      <div class="group">
        <button
          type="button"
          class="quiet icon"
          aria-label="To the beginning"
          title="To the beginning (Home)"
          onClick={() => seek(0)}
        >
          <Icon name="back" />
        </button>
        <PlayButton />
        <button
          type="button"
          class="quiet icon"
          aria-label="Loop"
          title="Loop the selected bars, or all (L)"
          aria-pressed={looping.value}
          onClick={() => {
            looping.value = !looping.value;
          }}
        >
          <Icon name="loop" />
        </button>
        <Place />
      </div>
      <Tempo />
      <Volume />
      {soundKind.value === "plain" && (
        <button type="button" class="quiet plain-sound" onClick={explainSound}>
          Plain sounds
        </button>
      )}
      <span class="gap" />
      {isEditing.value ? <EditTools /> : <ViewTools />}
      <div class="group zoom">
        <button
          type="button"
          class="quiet icon"
          aria-label="Zoom out"
          title="Zoom out (−)"
          onClick={() => zoomBy(1 / 1.4, store.piece.value)}
        >
          <Icon name="less" />
        </button>
        <button
          type="button"
          class="quiet icon"
          aria-label="Zoom in"
          title="Zoom in (+)"
          onClick={() => zoomBy(1.4, store.piece.value)}
        >
          <Icon name="more" />
        </button>
        <button
          type="button"
          class="quiet"
          title="See the whole piece (0)"
          onClick={() => fit(store.piece.value)}
        >
          Fit
        </button>
      </div>
    </section>
  );
}

function PlayButton() {
  return (
    <button
      type="button"
      id="play"
      class="play"
      aria-label={playing.value ? "Stop" : "Play"}
      title={playing.value ? "Stop (Space)" : "Play (Space)"}
      data-notes={notesPlayed.value}
      onClick={() => (playing.value ? stop() : void startOrPlay())}
    >
      <Icon name={playing.value ? "stop" : "play"} />
    </button>
  );
}

/** Bar and beat, written straight into the page: it changes with every frame. */
function Place() {
  const text = useRef<HTMLOutputElement>(null);
  const isPlaying = playing.value;
  const piece = store.piece.value;
  const cursor = store.cursor.value;
  useEffect(() => {
    let request = 0;
    const show = () => {
      if (text.current) text.current.textContent = placeName(store.piece.value, position());
      if (isPlaying) request = requestAnimationFrame(show);
    };
    show();
    return () => cancelAnimationFrame(request);
  }, [isPlaying, piece, cursor]);
  const bars = isEditing.value ? barAt(piece, lastStart(piece)) + 1 : barCount(piece);
  return (
    <span class="place">
      <output ref={text} id="place" aria-label="Bar and beat" aria-live="off" />
      <small>
        {waiting.value
          ? "waiting for the next notes"
          : `of ${bars === 1 ? "1 bar" : `${bars} bars`}`}
      </small>
    </span>
  );
}

/** Where the last note begins: behind it there is room to draw. */
function lastStart(piece: Piece): number {
  return piece.notes.reduce((most, note) => Math.max(most, note.start), 0);
}

function Tempo() {
  const bpm = store.tempoMap.value.bpm(store.cursor.value);
  return (
    <label class="slider" title="Tempo of playing; the piece itself stays as it is">
      <span>Tempo</span>
      <input
        type="range"
        min={0.5}
        max={2}
        step={0.01}
        value={speed.value}
        aria-valuetext={`${Math.round(bpm * speed.value)} beats per minute`}
        onInput={(event) => {
          speed.value = event.currentTarget.valueAsNumber;
        }}
        onDblClick={() => {
          speed.value = 1;
        }}
      />
      <output>{Math.round(bpm * speed.value)}</output>
    </label>
  );
}

function Volume() {
  return (
    <label class="slider volume">
      <span>Volume</span>
      <input
        type="range"
        min={0}
        max={1}
        step={0.01}
        value={volume.value}
        onInput={(event) => {
          volume.value = event.currentTarget.valueAsNumber;
        }}
      />
    </label>
  );
}

function explainSound(): void {
  say("news", "You hear a plain synthesizer.", missingSoundfont.value ?? "");
}

function ViewTools() {
  return (
    <div class="group">
      {hasServer && <ServerTools />}
      <button
        type="button"
        class="quiet"
        title="Keep the playhead in sight (F)"
        aria-pressed={following.value}
        onClick={() => {
          following.value = !following.value;
        }}
      >
        Follow
      </button>
    </div>
  );
}

function ServerTools() {
  return (
    <>
      <button
        type="button"
        class="quiet"
        title="Draw, move and delete notes (E)"
        disabled={!canEdit.value}
        onClick={startEditing}
      >
        {store.shown.value ? "Edit notes" : "Draw notes"}
      </button>
      <button
        type="button"
        class="quiet"
        title="Shade notes by how surprising they were to the model (S)"
        disabled={!store.shown.value || !canEdit.value}
        aria-pressed={showsSurprise.value}
        aria-busy={isComputing.value}
        onClick={() => {
          showsSurprise.value = !showsSurprise.value;
        }}
      >
        {isComputing.value ? "Listening…" : "Surprise"}
      </button>
    </>
  );
}

const GRIDS: readonly [number, string][] = [
  [1, "1/4"],
  [0.5, "1/8"],
  [1 / 3, "1/8 triplet"],
  [0.25, "1/16"],
  [0.125, "1/32"],
];

function EditTools() {
  return (
    <div class="group">
      <label class="slider">
        <span>Grid</span>
        <select
          value={String(grid.value)}
          onChange={(event) => {
            grid.value = Number(event.currentTarget.value);
          }}
        >
          {GRIDS.map(([quarters, name]) => (
            <option key={name} value={String(quarters)}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <button type="button" class="quiet" onClick={discardEdits}>
        Discard
      </button>
      <button type="button" class="primary" onClick={() => void finishEditing()}>
        {isChanged.value ? "Save as a version" : "Done"}
      </button>
    </div>
  );
}
