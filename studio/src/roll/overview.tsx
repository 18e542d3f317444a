// The whole piece in a strip below the roll, with the part that is in sight; dragging it scrolls.

import { effect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Piece } from "../api/types";
import * as store from "../project/store";
import { look, quartersShown, view } from "./geometry";
import { type Palette, palette, trackColours } from "./palette";

const MARGIN = 3; // pixels

export function Overview() {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const element = canvas.current;
    if (!element) return undefined;
    const context = element.getContext("2d") as CanvasRenderingContext2D;
    const notes = document.createElement("canvas").getContext("2d") as CanvasRenderingContext2D;
    let painted: readonly unknown[] = [];
    const draw = () => {
      sizeToBox(element);
      const { width, height } = element;
      view.value; // also while there is no room
      if (width * height === 0) return;
      const now = [store.piece.value, palette.value, width, height];
      if (now.some((what, i) => what !== painted[i])) {
        Object.assign(notes.canvas, { width, height });
        paintSmall(notes, store.piece.value, palette.value);
        painted = now;
      }
      context.clearRect(0, 0, width, height);
      context.drawImage(notes.canvas, 0, 0);
      paintSight(context);
    };
    const observer = new ResizeObserver(draw);
    observer.observe(element);
    const stop = effect(draw);
    return () => {
      observer.disconnect();
      stop();
    };
  }, []);
  const scroll = (event: PointerEvent) => {
    if (!(event.buttons & 1) || !canvas.current) return;
    const box = canvas.current.getBoundingClientRect();
    const piece = store.piece.value;
    const middle = ((event.clientX - box.left) / box.width) * piece.length;
    look({ left: middle - quartersShown(view.value) / 2 }, piece);
  };
  return (
    <canvas
      ref={canvas}
      class="overview"
      role="img"
      aria-label="The whole piece"
      onPointerDown={(event) => {
        event.currentTarget.setPointerCapture(event.pointerId);
        scroll(event);
      }}
      onPointerMove={scroll}
    />
  );
}

export function sizeToBox(canvas: HTMLCanvasElement): void {
  const width = Math.round(canvas.clientWidth * devicePixelRatio);
  const height = Math.round(canvas.clientHeight * devicePixelRatio);
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
}

/** The notes from the quarter `from` on, filling the canvas. */
export function paintSmall(
  context: CanvasRenderingContext2D,
  piece: Piece,
  palette: Palette,
  from = 0,
): void {
  const { width, height } = context.canvas;
  context.clearRect(0, 0, width, height);
  const notes = piece.notes.filter((note) => note.start >= from - 1e-6);
  if (notes.length === 0) return;
  const low = notes.reduce((least, note) => Math.min(least, note.pitch), 127);
  const high = notes.reduce((most, note) => Math.max(most, note.pitch), low + 11);
  const across = width / Math.max(piece.length - from, 1e-6);
  const row = (height - MARGIN * 2) / (high - low + 1);
  const colours = trackColours(palette, piece.tracks);
  for (const note of notes) {
    context.fillStyle = colours[note.track] as string;
    context.globalAlpha = note.kind === "written" ? 0.9 : 0.5;
    const y = MARGIN + (high - note.pitch) * row;
    context.fillRect(
      (note.start - from) * across,
      y,
      Math.max(1, note.length * across),
      Math.max(1, row),
    );
  }
  context.globalAlpha = 1;
}

function paintSight(context: CanvasRenderingContext2D): void {
  const { length } = store.piece.value;
  if (length === 0) return;
  const { width, height } = context.canvas;
  const { left } = view.value;
  const x = (left / length) * width;
  const right = Math.min(1, (left + quartersShown(view.value)) / length) * width;
  context.strokeStyle = palette.value.muted;
  context.lineWidth = devicePixelRatio;
  context.strokeRect(x + 1, 1, Math.max(6, right - x - 2), height - 2);
}
