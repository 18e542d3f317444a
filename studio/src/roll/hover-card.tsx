// What is under the pointer: the note, how surprising it was, and what the model would have written instead.

import { useEffect, useRef } from "preact/hooks";
import { pitchName, placeName } from "../project/piece";
import * as store from "../project/store";
import { isEditing } from "./draft";
import { view } from "./geometry";
import { hovered } from "./gestures";
import { alternativesOf, bitsShown } from "./surprise";

const WIDTH = 220; // pixels, as in styles/roll.css
const KINDS = { prompt: "given", kept: "kept", written: "written by the model" };

export function HoverCard() {
  const card = useRef<HTMLDivElement>(null);
  const at = hovered.value;
  useEffect(() => {
    if (!card.current || !at) return;
    const height = card.current.offsetHeight;
    const isLow = at.y + height + 24 > view.value.height;
    card.current.style.left = `${Math.max(4, Math.min(at.x + 14, view.value.width - WIDTH - 8))}px`;
    card.current.style.top = `${isLow ? at.y - height - 14 : at.y + 18}px`;
  });
  const piece = store.piece.value;
  const note = at ? piece.notes[at.index] : undefined;
  if (!at || !note) return null;
  const track = piece.tracks[note.track];
  const bits = isEditing.value ? undefined : bitsShown.value?.get(at.index);
  return (
    <div class="hover-card" ref={card}>
      <strong>{track?.is_drum ? `Drum ${note.pitch}` : pitchName(note.pitch)}</strong>
      <span> {track?.name}</span>
      <p>
        bar {placeName(piece, note.start)}, loudness {note.velocity}, {KINDS[note.kind]}
      </p>
      {bits !== undefined && <Considered index={at.index} bits={bits} />}
    </div>
  );
}

function Considered({ index, bits }: { index: number; bits: number }) {
  const alternatives = alternativesOf(index);
  return (
    <>
      <p>
        {surpriseInWords(bits)} ({bits.toFixed(1)} bits)
      </p>
      {alternatives.length > 0 && (
        <table>
          <caption>What the model considered here</caption>
          <tbody>
            {alternatives.map(({ label, probability }) => (
              <tr key={label}>
                <th scope="row">{label}</th>
                <td>
                  <meter min={0} max={1} value={probability} aria-hidden="true" />
                </td>
                <td>{percent(probability)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </>
  );
}

function percent(probability: number): string {
  return probability < 0.01 ? "< 1 %" : `${Math.round(probability * 100)} %`;
}

function surpriseInWords(bits: number): string {
  if (bits < 2) return "Expected";
  if (bits < 5) return "Somewhat surprising";
  return bits < 8 ? "Surprising" : "Very surprising";
}
