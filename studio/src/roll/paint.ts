// Draws the piano roll: only what is in sight, so that thousands of notes cost nothing.

import type { Note, Piece } from "../api/types";
import {
  type Bars,
  barAt,
  barCount,
  barStart,
  beatLength,
  byStart,
  firstFrom,
  isBlackKey,
  metreAt,
} from "../project/piece";
import { KEYS, quarterAt, quartersShown, RULER, type View, xOf, yOf } from "./geometry";
import { type Palette, surpriseColour, trackColours } from "./palette";

/** What stands still while the playhead moves over it. */
export interface Still {
  piece: Piece;
  view: View;
  palette: Palette;
  selection: Bars | null;
  branchLine: number | null; // the bar line under the pointer
  markedNotes: ReadonlySet<number>; // indexes of notes
  heard: readonly boolean[]; // by track
  surprise: ReadonlyMap<number, number> | null; // bits by index
}

export interface Scene extends Still {
  playhead: number;
  sounding: ReadonlySet<number>; // pitches
}

const FEWEST_PIXELS_PER_BEAT = 7;
const FEWEST_PIXELS_PER_NUMBER = 34;
const GAP = 0.5; // pixels between rows

export function paintStill(context: CanvasRenderingContext2D, scene: Still): void {
  const { view, palette } = scene;
  context.fillStyle = palette.background;
  context.fillRect(0, 0, view.width, view.height);
  context.save();
  context.beginPath();
  context.rect(KEYS, 0, view.width - KEYS, view.height);
  context.clip();
  paintRows(context, scene);
  paintRegions(context, scene);
  paintBars(context, scene);
  paintNotes(context, scene);
  context.restore();
}

/** What changes with every frame while playing. */
export function paintMoving(context: CanvasRenderingContext2D, scene: Scene): void {
  const { view } = scene;
  context.save();
  context.beginPath();
  context.rect(KEYS, 0, view.width - KEYS, view.height);
  context.clip();
  paintPlayhead(context, scene);
  context.restore();
  paintKeys(context, scene);
}

function paintRows(context: CanvasRenderingContext2D, { view, palette }: Still): void {
  for (const pitch of pitchesShown(view)) {
    const y = yOf(view, pitch);
    if (isBlackKey(pitch)) {
      context.fillStyle = palette.blackKeys;
      context.fillRect(KEYS, y, view.width, view.row);
    } else if (pitch % 12 === 0) {
      context.fillStyle = palette.octave;
      context.fillRect(KEYS, Math.round(y + view.row) - 1, view.width, 1);
    }
  }
}

function pitchesShown(view: View): number[] {
  const high = Math.min(127, Math.ceil(view.top));
  const low = Math.max(0, Math.floor(view.top - (view.height - RULER) / view.row) - 1);
  return Array.from({ length: Math.max(0, high - low + 1) }, (_, i) => low + i);
}

/** Behind the notes: what was given, what is selected, what the training set has too. */
function paintRegions(context: CanvasRenderingContext2D, scene: Still): void {
  const { view, palette, piece, selection } = scene;
  const shade = (from: number, to: number, colour: string) => {
    context.fillStyle = colour;
    context.fillRect(xOf(view, from), RULER, (to - from) * view.zoom, view.height);
  };
  const prompt = endOfPrompt(piece);
  if (prompt > 0) shade(0, prompt, palette.prompt);
  if (selection) {
    const [from, to] = [barStart(piece, selection.from), barStart(piece, selection.to)];
    shade(from, to, palette.selection);
    context.fillStyle = palette.accent;
    context.fillRect(xOf(view, from), 0, (to - from) * view.zoom, 3);
  }
}

const prompts = new WeakMap<Piece, number>();

function endOfPrompt(piece: Piece): number {
  let end = prompts.get(piece);
  if (end === undefined) {
    const given = piece.notes.filter((note) => note.kind === "prompt");
    const last = given.reduce((most, note) => Math.max(most, note.start), -1);
    end = last < 0 ? 0 : barStart(piece, barAt(piece, last) + 1);
    prompts.set(piece, end);
  }
  return end;
}

function paintBars(context: CanvasRenderingContext2D, scene: Still): void {
  const { view, palette, piece } = scene;
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  const end = quarterAt(view, view.width);
  const first = barAt(piece, view.left);
  const width = (barStart(piece, first + 1) - barStart(piece, first)) * view.zoom;
  const every = 2 ** Math.max(0, Math.ceil(Math.log2(FEWEST_PIXELS_PER_NUMBER / (width || 1))));
  for (let bar = first; bar < piece.bars.length; bar += 1) {
    const start = barStart(piece, bar);
    if (start > end) break;
    const x = Math.round(xOf(view, start));
    const isNumbered = bar % every === 0;
    context.fillStyle = isNumbered ? palette.rule : palette.faintRule;
    context.fillRect(x, isNumbered ? 10 : RULER, 1, view.height);
    if (bar === barCount(piece)) break;
    if (isNumbered) {
      context.fillStyle = palette.muted;
      context.fillText(String(bar + 1), x + 5, 15);
    }
    paintBeats(context, scene, start, barStart(piece, bar + 1));
  }
  if (scene.branchLine !== null) paintBranchLine(context, scene, scene.branchLine);
}

function paintBeats(
  context: CanvasRenderingContext2D,
  { view, palette, piece }: Still,
  from: number,
  to: number,
): void {
  const beat = beatLength(metreAt(piece, from));
  if (beat * view.zoom < FEWEST_PIXELS_PER_BEAT) return;
  context.fillStyle = palette.faintRule;
  for (let quarter = from + beat; quarter < to - 1e-6; quarter += beat) {
    context.fillRect(Math.round(xOf(view, quarter)), RULER, 1, view.height);
  }
}

function paintBranchLine(context: CanvasRenderingContext2D, scene: Still, line: number): void {
  const { view, palette, piece } = scene;
  const x = Math.round(xOf(view, barStart(piece, line)));
  const words = line < barCount(piece) ? `continue from bar ${line + 1}` : "continue";
  const width = context.measureText(words).width + 28;
  const left = Math.min(x - 1, view.width - width);
  context.fillStyle = palette.accent;
  context.fillRect(x - 1, 6, 2, view.height);
  context.beginPath();
  context.roundRect(left, 5, width, 20, 5);
  context.fill();
  context.fillStyle = palette.background;
  context.fillText(words, left + 21, 15.5);
  context.strokeStyle = palette.background;
  context.lineWidth = 1.5;
  context.lineCap = "round";
  context.beginPath();
  context.moveTo(left + 6, 15);
  context.lineTo(left + 15, 15);
  context.moveTo(left + 9, 15);
  context.lineTo(left + 15, 10);
  context.moveTo(left + 9, 15);
  context.lineTo(left + 15, 20);
  context.stroke();
}

function paintNotes(context: CanvasRenderingContext2D, scene: Still): void {
  const { view, piece, palette } = scene;
  const order = byStart(piece.notes);
  const colours = trackColours(palette, piece.tracks);
  const end = view.left + quartersShown(view);
  const height = Math.max(2, view.row - GAP);
  for (let i = firstFrom(order.notes, view.left - order.longest); i < order.notes.length; i += 1) {
    const note = order.notes[i] as Note;
    if (note.start > end) break;
    const index = order.indexes[i] as number;
    const x = xOf(view, note.start);
    const width = Math.max(2, note.length * view.zoom - 1);
    const y = yOf(view, note.pitch);
    if (x + width < KEYS || y + height < RULER || y > view.height) continue;
    const bits = scene.surprise?.get(index);
    const colour =
      bits === undefined ? (colours[note.track] as string) : surpriseColour(palette, bits);
    paintNote(context, note, { x, y, width, height, colour, scene, shaded: bits !== undefined });
    if (scene.markedNotes.has(index)) {
      context.globalAlpha = 1;
      context.strokeStyle = palette.text;
      context.lineWidth = 2;
      context.strokeRect(x - 1, y - 1, width + 2, height + 2);
    }
  }
  context.globalAlpha = 1;
}

interface Place {
  x: number;
  y: number;
  width: number;
  height: number;
  colour: string;
  scene: Still;
  shaded: boolean;
}

function paintNote(context: CanvasRenderingContext2D, note: Note, place: Place): void {
  const { x, y, width, height, colour, scene, shaded } = place;
  const loudness = note.velocity / 127;
  const audible = scene.heard[note.track] ? 1 : 0.25;
  context.fillStyle = colour;
  if (note.kind === "prompt" && !shaded) {
    context.globalAlpha = (0.16 + 0.26 * loudness) * audible;
    context.fillRect(x, y, width, height);
    context.globalAlpha = 0.9 * audible;
    context.strokeStyle = colour;
    context.lineWidth = 1;
    context.strokeRect(x + 0.5, y + 0.5, Math.max(1, width - 1), Math.max(1, height - 1));
    return;
  }
  const strength = note.kind === "kept" && !shaded ? 0.62 : 1;
  context.globalAlpha = (0.4 + 0.6 * loudness) * strength * audible;
  if (height > 5 && width > 5) {
    context.beginPath();
    context.roundRect(x, y, width, height, 2);
    context.fill();
  } else context.fillRect(x, y, width, height);
}

function paintPlayhead(
  context: CanvasRenderingContext2D,
  { view, palette, playhead }: Scene,
): void {
  const x = Math.round(xOf(view, playhead));
  context.fillStyle = palette.text;
  context.fillRect(x, RULER - 8, 1.5, view.height);
  context.beginPath();
  context.moveTo(x - 5, RULER - 9);
  context.lineTo(x + 6.5, RULER - 9);
  context.lineTo(x + 0.75, RULER - 1);
  context.fill();
}

function paintKeys(context: CanvasRenderingContext2D, scene: Scene): void {
  const { view, palette, sounding } = scene;
  context.fillStyle = palette.background;
  context.fillRect(0, 0, KEYS, view.height);
  context.save();
  context.beginPath();
  context.rect(0, RULER, KEYS, view.height);
  context.clip();
  context.fillStyle = palette.whiteKey;
  context.fillRect(0, RULER, KEYS - 1, view.height);
  context.font = `${Math.min(10, view.row + 1)}px system-ui, sans-serif`;
  for (const pitch of pitchesShown(view)) {
    const y = yOf(view, pitch);
    if (sounding.has(pitch)) {
      context.fillStyle = palette.accent;
      context.fillRect(0, y, KEYS - 1, view.row);
    } else if (isBlackKey(pitch)) {
      context.fillStyle = palette.blackKey;
      context.fillRect(0, y, KEYS * 0.62, view.row);
    }
    if (pitch % 12 === 0 || pitch % 12 === 5) {
      context.fillStyle = palette.rule;
      context.fillRect(0, Math.round(y + view.row) - 1, KEYS - 1, 1);
    }
    if (pitch % 12 === 0 && view.row > 4.5) {
      context.fillStyle = palette.keyText;
      context.fillText(`C${pitch / 12 - 1}`, KEYS - 20, y + view.row / 2);
    }
  }
  context.restore();
  context.fillStyle = palette.rule;
  context.fillRect(KEYS - 1, RULER, 1, view.height);
}
