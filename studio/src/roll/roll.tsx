// The piano roll: a canvas that is drawn again whenever something that it shows has changed.

import { computed, effect, untracked } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { barCount, barsName, byStart, firstFrom } from "../project/piece";
import * as store from "../project/store";
import { isHeard, playing, position } from "../sound/player";
import { isEditing, marked } from "./draft";
import { fitRows, follow, following, look, view } from "./geometry";
import { attach, branchLine } from "./gestures";
import { HoverCard } from "./hover-card";
import { Overview } from "./overview";
import { paintMoving, paintStill, type Scene, type Still } from "./paint";
import { palette } from "./palette";
import { SelectionBar } from "./selection-bar";
import { bitsShown } from "./surprise";

const stillness = window.matchMedia("(prefers-reduced-motion: reduce)");

export function PianoRoll() {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => (canvas.current ? run(canvas.current) : undefined), []);
  return (
    <section class="roll" aria-label="Piano roll">
      <canvas
        ref={canvas}
        id="roll"
        tabIndex={0}
        role="application"
        aria-label={description()}
        aria-describedby="roll-keys"
      />
      <p id="roll-keys" class="unseen">
        Left and right arrows move by a bar, with Shift they select bars. Enter continues from the
        bar line. Press the question mark for all keys.
      </p>
      <SelectionBar />
      {store.isWriting.value && store.shown.value?.message && (
        <p class="roll-status" role="status">
          {store.shown.value.message}
        </p>
      )}
      <HoverCard />
      <Overview />
    </section>
  );
}

function description(): string {
  const piece = store.piece.value;
  const bars = barCount(piece);
  if (bars === 0) return "Piano roll, empty";
  const tracks = piece.tracks.map((track) => track.name).join(", ");
  const chosen = store.selection.value ? `, ${barsName(store.selection.value)} selected` : "";
  return `Piano roll, ${bars} bars, ${piece.notes.length} notes: ${tracks}${chosen}`;
}

/** Keep the canvas drawn until the returned function is called. */
function run(canvas: HTMLCanvasElement): () => void {
  const contextOf = (of: HTMLCanvasElement) =>
    of.getContext("2d", { alpha: false }) as CanvasRenderingContext2D;
  const [context, behind] = [contextOf(canvas), contextOf(document.createElement("canvas"))];
  let painted: Still | null = null; // what is on the canvas behind
  let request = 0;

  const draw = () => {
    request = 0;
    if (canvas.width * canvas.height === 0) return;
    if (playing.value && following.value) follow(position(), store.piece.value, !stillness.matches);
    const ratio = canvas.width / Math.max(1, view.value.width);
    const now = scene();
    if (!painted || !isSame(painted, now)) {
      behind.setTransform(ratio, 0, 0, ratio, 0, 0);
      paintStill(behind, now);
      painted = now;
    }
    context.resetTransform();
    context.drawImage(behind.canvas, 0, 0);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    paintMoving(context, now);
    if (playing.value) ask();
  };
  const ask = () => {
    if (!request) request = requestAnimationFrame(draw);
  };

  const observer = new ResizeObserver(() => {
    const box = canvas.getBoundingClientRect();
    canvas.width = Math.round(box.width * devicePixelRatio);
    canvas.height = Math.round(box.height * devicePixelRatio);
    Object.assign(behind.canvas, { width: canvas.width, height: canvas.height });
    painted = null;
    look({ width: box.width, height: box.height }, store.piece.value);
    fitRows(store.piece.value);
    draw();
  });
  observer.observe(canvas);
  const detach = attach(canvas);
  const stopFitting = effect(() => {
    const piece = store.piece.value;
    untracked(() => isEditing.value || fitRows(piece)); // not under the pointer that draws
  });
  const stopDrawing = effect(() => {
    scene(); // everything read there asks for a new drawing when it changes
    playing.value;
    ask();
  });
  return () => {
    observer.disconnect();
    detach();
    stopFitting();
    stopDrawing();
    cancelAnimationFrame(request);
  };
}

function isSame(a: Still, b: Still): boolean {
  return (
    a.piece === b.piece &&
    a.view === b.view &&
    a.palette === b.palette &&
    a.selection === b.selection &&
    a.branchLine === b.branchLine &&
    a.markedNotes === b.markedNotes &&
    a.surprise === b.surprise &&
    a.heard === b.heard
  );
}

const heard = computed(() => store.piece.value.tracks.map((_, track) => isHeard(track)));

function scene(): Scene {
  const piece = store.piece.value;
  const playhead = position();
  return {
    piece,
    view: view.value,
    palette: palette.value,
    playhead,
    selection: store.selection.value,
    branchLine: branchLine.value,
    markedNotes: marked.value,
    heard: heard.value,
    surprise: isEditing.value ? null : bitsShown.value,
    sounding: playing.value ? sounding(playhead) : NONE,
  };
}

const NONE: ReadonlySet<number> = new Set();

function sounding(playhead: number): ReadonlySet<number> {
  const order = byStart(store.piece.value.notes);
  const pitches = new Set<number>();
  for (let i = firstFrom(order.notes, playhead - order.longest); i < order.notes.length; i += 1) {
    const note = order.notes[i];
    if (!note || note.start > playhead) break;
    const isDrum = store.piece.value.tracks[note.track]?.is_drum;
    if (note.start + note.length > playhead && !isDrum && isHeard(note.track))
      pitches.add(note.pitch);
  }
  return pitches;
}
