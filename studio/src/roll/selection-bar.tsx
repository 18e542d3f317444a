// What can be done with the selected bars, right above them.

import { useEffect, useRef } from "preact/hooks";
import { barStart, barsName } from "../project/piece";
import * as store from "../project/store";
import { pickTask } from "../project/wishes";
import { looping, playing, seek } from "../sound/player";
import { Icon } from "../views/icons";
import { KEYS, view, xOf } from "./geometry";

export function SelectionBar() {
  const bar = useRef<HTMLDivElement>(null);
  const bars = store.selection.value;
  const piece = store.piece.value;
  const left = bars ? xOf(view.value, barStart(piece, bars.from)) : 0;
  useEffect(() => {
    if (!bar.current) return;
    const most = view.value.width - bar.current.offsetWidth - 8;
    bar.current.style.left = `${Math.max(KEYS + 4, Math.min(left, most))}px`;
  });
  if (!bars) return null;
  const can = store.run.value?.can ?? [];
  return (
    <div class="selection-bar" ref={bar} role="toolbar" aria-label={`Selected ${barsName(bars)}`}>
      <span>{barsName(bars)}</span>
      <button type="button" aria-pressed={looping.value} onClick={loop}>
        Loop
      </button>
      {can.includes("rewrite") && (
        <button type="button" onClick={() => choose("rewrite")}>
          Rewrite
        </button>
      )}
      {can.includes("vary") && (
        <button type="button" onClick={() => choose("vary")}>
          Vary
        </button>
      )}
      <button type="button" aria-label="Clear the selection" onClick={clear}>
        <Icon name="close" />
      </button>
    </div>
  );
}

function loop(): void {
  looping.value = !looping.value;
  const bars = store.selection.value;
  if (!bars || !looping.value) return;
  if (playing.value) seek(barStart(store.piece.value, bars.from));
  else store.cursor.value = barStart(store.piece.value, bars.from);
}

/** Choose what the panel beside the roll writes, and go there. */
function choose(to: "rewrite" | "vary"): void {
  pickTask(to);
  document.getElementById("write")?.focus();
}

function clear(): void {
  store.selection.value = null;
}
