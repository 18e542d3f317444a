// Every key of the page in one table, which the help shows too.

import { hasServer } from "./api/client";
import { keysPlay } from "./live/devices";
import {
  branchAt,
  download,
  drop,
  goTo,
  moveCursor,
  redo,
  tryOut,
  undo,
  write,
} from "./project/actions";
import { barAt, barCount, nearestBarLine } from "./project/piece";
import { startOrPlay } from "./project/playing";
import * as store from "./project/store";
import {
  discardEdits,
  finishEditing,
  grid,
  isEditing,
  marked,
  mayLeave,
  nudge,
  redoEdit,
  removeMarked,
  startEditing,
  undoEdit,
} from "./roll/draft";
import { fit, follow, following, look, rowsAreFitted, view, zoomBy } from "./roll/geometry";
import { showsSurprise } from "./roll/surprise";
import { looping, playing, seek, stop } from "./sound/player";
import { chooseProject } from "./views/files";
import { helpIsOpen } from "./views/open";

export interface Key {
  keys: string; // as the help writes them, alternatives divided by " or "
  does: string;
  group: "Playing" | "Writing" | "Looking" | "Editing notes" | "Files";
  when?: () => boolean;
  run: () => unknown;
}

const hasProject = () => store.project.value !== null;
const edits = () => isEditing.value;
const compares = () => store.candidates.value.length > 0;
const marksNotes = () => edits() && marked.value.size > 0;

const ALL: readonly Key[] = [
  {
    keys: "Space",
    does: "Play or stop",
    group: "Playing",
    run: () => (playing.value ? stop() : startOrPlay()),
  },
  { keys: "Home", does: "To the beginning", group: "Playing", run: () => seek(0) },
  { keys: "End", does: "To the end", group: "Playing", run: () => seek(store.piece.value.length) },
  { keys: "L", does: "Loop the selected bars, or all", group: "Playing", run: flip(looping) },
  {
    keys: "←",
    does: "Marked notes earlier",
    group: "Editing notes",
    when: marksNotes,
    run: () => nudge({ quarters: -grid.value }),
  },
  {
    keys: "→",
    does: "Marked notes later",
    group: "Editing notes",
    when: marksNotes,
    run: () => nudge({ quarters: grid.value }),
  },
  {
    keys: "↑",
    does: "Marked notes higher",
    group: "Editing notes",
    when: marksNotes,
    run: () => nudge({ pitches: 1 }),
  },
  {
    keys: "↓",
    does: "Marked notes lower",
    group: "Editing notes",
    when: marksNotes,
    run: () => nudge({ pitches: -1 }),
  },
  {
    keys: "Shift+→",
    does: "Marked notes longer",
    group: "Editing notes",
    when: marksNotes,
    run: () => nudge({ length: grid.value }),
  },
  {
    keys: "Shift+←",
    does: "Marked notes shorter",
    group: "Editing notes",
    when: marksNotes,
    run: () => nudge({ length: -grid.value }),
  },
  {
    keys: "Shift+↑",
    does: "Marked notes louder",
    group: "Editing notes",
    when: marksNotes,
    run: () => nudge({ velocity: 8 }),
  },
  {
    keys: "Shift+↓",
    does: "Marked notes softer",
    group: "Editing notes",
    when: marksNotes,
    run: () => nudge({ velocity: -8 }),
  },
  { keys: "N", does: "Mark the next note", group: "Editing notes", when: edits, run: markNext },
  {
    keys: "Delete or Backspace",
    does: "Delete the marked notes",
    group: "Editing notes",
    when: marksNotes,
    run: removeMarked,
  },
  {
    keys: "Escape",
    does: "Discard the edits",
    group: "Editing notes",
    when: edits,
    run: discardEdits,
  },
  {
    keys: "E",
    does: "Save the edits as a version",
    group: "Editing notes",
    when: edits,
    run: finishEditing,
  },
  { keys: "Ctrl+Z", does: "Undo an edit", group: "Editing notes", when: edits, run: undoEdit },
  {
    keys: "Ctrl+Shift+Z or Ctrl+Y",
    does: "Redo an edit",
    group: "Editing notes",
    when: edits,
    run: redoEdit,
  },
  { keys: "←", does: "A bar back", group: "Playing", run: () => stepBar(-1) },
  { keys: "→", does: "A bar on", group: "Playing", run: () => stepBar(1) },
  { keys: "Shift+←", does: "Select a bar less", group: "Writing", run: () => select(-1) },
  { keys: "Shift+→", does: "Select a bar more", group: "Writing", run: () => select(1) },
  { keys: "Escape", does: "Clear the selection", group: "Writing", run: clearSelection },
  {
    keys: "C or Enter",
    does: "Continue from the bar line at the playhead",
    group: "Writing",
    when: () => !edits(),
    run: branchHere,
  },
  {
    keys: "W",
    does: "Write as the panel says",
    group: "Writing",
    when: () => !edits(),
    run: () => write(),
  },
  {
    keys: "1 to 8",
    does: "Show one of those side by side",
    group: "Writing",
    when: compares,
    run: () => {},
  },
  { keys: "K", does: "Keep the version that is shown", group: "Writing", run: keepShown },
  {
    keys: "X",
    does: "Drop the one that is shown, of those side by side",
    group: "Writing",
    when: compares,
    run: dropShown,
  },
  { keys: "Ctrl+Z", does: "Undo: back in the tree of versions", group: "Writing", run: undo },
  { keys: "Ctrl+Shift+Z or Ctrl+Y", does: "Redo", group: "Writing", run: redo },
  { keys: "E", does: "Draw, move and delete notes", group: "Editing notes", run: startEditing },
  {
    keys: "S",
    does: "Show how surprising each note is",
    group: "Looking",
    run: flip(showsSurprise),
  },
  { keys: "F", does: "Keep the playhead in sight", group: "Looking", run: flip(following) },
  {
    keys: "+ or =",
    does: "Zoom in (or Ctrl and the wheel)",
    group: "Looking",
    run: () => zoomBy(1.4, store.piece.value),
  },
  { keys: "-", does: "Zoom out", group: "Looking", run: () => zoomBy(1 / 1.4, store.piece.value) },
  { keys: "0", does: "See the whole piece", group: "Looking", run: () => fit(store.piece.value) },
  { keys: "↑", does: "Scroll up", group: "Looking", run: () => scrollRows(4) },
  { keys: "↓", does: "Scroll down", group: "Looking", run: () => scrollRows(-4) },
  {
    keys: "Ctrl+S",
    does: "Save the project to a file",
    group: "Files",
    run: () => download("project"),
  },
  { keys: "Ctrl+O", does: "Open a project", group: "Files", run: chooseProject },
  { keys: "?", does: "These keys", group: "Looking", run: flip(helpIsOpen) },
];

const needsServer = ({ keys, group }: Key) =>
  group === "Editing notes" || group === "Files" || keys === "S";

export const KEYS = ALL.filter((key) => hasServer || !needsServer(key));

const NAMES: Record<string, string> = {
  " ": "Space",
  ArrowLeft: "←",
  ArrowRight: "→",
  ArrowUp: "↑",
  ArrowDown: "↓",
};

export function listenToKeys(): void {
  window.addEventListener("keydown", (event) => {
    const target = event.target as HTMLElement;
    if (event.altKey || target.closest("dialog")) return;
    const pressed = nameOf(event);
    if (needsKeys(target, pressed) || (keysPlay.value && /^[A-Z]$/.test(pressed))) return;
    const digit = /^[1-8]$/.test(pressed) && compares();
    const key = KEYS.find(
      ({ keys, when }) => keys.split(" or ").includes(pressed) && (when?.() ?? true),
    );
    if ((!key && !digit) || (!hasProject() && key?.keys !== "?" && key?.keys !== "Ctrl+O")) return;
    event.preventDefault();
    if (key) void key.run();
    else showCandidate(Number(pressed));
  });
}

function nameOf(event: KeyboardEvent): string {
  const name = NAMES[event.key] ?? (event.key.length === 1 ? event.key.toUpperCase() : event.key);
  const isLetter = /^[A-Z]$/.test(name) || name.length > 1 || name in NAMES;
  const shift = event.shiftKey && (isLetter || "←→↑↓".includes(name)) ? "Shift+" : "";
  return `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${shift}${name}`;
}

/** Whether a control needs the key itself: text to be typed in, a slider to be moved, a button to be pressed. */
function needsKeys(target: HTMLElement, pressed: string): boolean {
  if (pressed === "Ctrl+S" || pressed === "Ctrl+O") return false;
  if (target.matches("input[type=range]")) return /←|→|↑|↓|Home|End/.test(pressed);
  if (target.matches("input[type=checkbox], input[type=radio]"))
    return /Space|←|→|↑|↓/.test(pressed);
  if (target.matches("input, select, textarea")) return true;
  return target.matches("button, summary, a") && (pressed === "Enter" || pressed === "Space");
}

function flip(flag: { value: boolean }): () => void {
  return () => {
    flag.value = !flag.value;
  };
}

function stepBar(by: number): void {
  moveCursor(by);
  seek(store.cursor.value);
  follow(store.cursor.value, store.piece.value, false);
}

function select(by: number): void {
  const piece = store.piece.value;
  const bar = barAt(piece, store.cursor.value);
  const { from, to } = store.selection.value ?? { from: bar, to: bar };
  const end = Math.min(to + by, barCount(piece));
  store.selection.value = end > from ? { from, to: end } : null;
}

function clearSelection(): void {
  store.selection.value = null;
}

function branchHere(): Promise<void> {
  return branchAt(nearestBarLine(store.piece.value, store.cursor.value));
}

async function keepShown(): Promise<void> {
  if (!mayLeave()) return;
  if (store.shownId.value) await goTo(store.shownId.value);
}

async function dropShown(): Promise<void> {
  if (store.shownId.value) await drop(store.shownId.value);
}

function showCandidate(number: number): void {
  const version = store.candidates.value[number - 1];
  if (version) tryOut(version.id);
}

function scrollRows(pitches: number): void {
  rowsAreFitted.value = false;
  look({ top: view.value.top + pitches }, store.piece.value);
}

function markNext(): void {
  const count = store.piece.value.notes.length;
  const last = Math.max(-1, ...marked.value);
  if (count > 0) marked.value = new Set([(last + 1) % count]);
}
