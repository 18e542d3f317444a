// The tracks above the piano roll: heard or not, and protected from being rewritten.

import type { Signal } from "@preact/signals";
import type { Track } from "../api/types";
import { piece, protectedTracks, run } from "../project/store";
import { addTrack, drawnTrack, isEditing } from "../roll/draft";
import { colourNumber } from "../roll/palette";
import { bitsShown } from "../roll/surprise";
import { muted, soloed } from "../sound/player";

function turn(set: Signal<ReadonlySet<number>>, track: number): void {
  const next = new Set(set.value);
  if (!next.delete(track)) next.add(track);
  set.value = next;
}

export function Tracks() {
  const { tracks } = piece.value;
  const can = run.value?.can ?? [];
  const canProtect = can.includes("rewrite") || can.includes("vary");
  return (
    <ul class="tracks" aria-label="Tracks">
      {tracks.map((track, index) => (
        <Strip key={index} index={index} track={track} canProtect={canProtect} />
      ))}
      {isEditing.value && <AddTrack />}
      {tracks.length > 0 && !isEditing.value && <Legend />}
    </ul>
  );
}

function AddTrack() {
  const instruments = run.value?.instruments ?? [];
  const options = (isKnown: boolean) =>
    instruments.map(
      (instrument, index) =>
        instrument.is_known === isKnown && (
          <option key={index} value={index}>
            {instrument.name}
          </option>
        ),
    );
  return (
    <li>
      <select
        aria-label="Add a track"
        value=""
        onChange={(event) => {
          const instrument = instruments[Number(event.currentTarget.value)];
          if (instrument) addTrack(instrument);
          event.currentTarget.value = "";
        }}
      >
        <option value="">add a track…</option>
        {instruments.some((instrument) => instrument.is_known) && (
          <optgroup label="Known to the model">{options(true)}</optgroup>
        )}
        <optgroup label="Others">{options(false)}</optgroup>
      </select>
    </li>
  );
}

interface StripProps {
  index: number;
  track: Track;
  canProtect: boolean;
}

function Strip({ index, track, canProtect }: StripProps) {
  const name = track.name || `Track ${index + 1}`;
  const isDrawn = isEditing.value && drawnTrack.value === index;
  const label = (
    <>
      <i class={`swatch colour-${colourNumber(piece.value.tracks, index)}`} />
      {name}
    </>
  );
  return (
    <li class={isDrawn ? "drawn" : ""}>
      {isEditing.value ? (
        <button
          type="button"
          class="quiet track-name"
          aria-pressed={isDrawn}
          title={`Draw notes of ${name}`}
          onClick={() => {
            drawnTrack.value = index;
          }}
        >
          {label}
        </button>
      ) : (
        <span class="track-name">{label}</span>
      )}
      <button
        type="button"
        class="quiet letter"
        aria-label={`Mute ${name}`}
        title="Mute"
        aria-pressed={muted.value.has(index)}
        onClick={() => turn(muted, index)}
      >
        M
      </button>
      <button
        type="button"
        class="quiet letter"
        aria-label={`Only ${name}`}
        title="Solo"
        aria-pressed={soloed.value.has(index)}
        onClick={() => turn(soloed, index)}
      >
        S
      </button>
      {canProtect && (
        <label class="protect" title="Rewriting and varying leave a protected track as it is">
          <input
            type="checkbox"
            checked={protectedTracks.value.has(index)}
            onChange={() => turn(protectedTracks, index)}
          />
          protect<span class="unseen"> {name}</span>
        </label>
      )}
    </li>
  );
}

const KINDS = [
  ["prompt", "given"],
  ["kept", "kept"],
  ["written", "written"],
] as const;

function Legend() {
  if (bitsShown.value) return <SurpriseScale />;
  const kinds = new Set(piece.value.notes.map((note) => note.kind));
  if (kinds.size < 2) return null;
  return (
    <li class="legend" aria-label="Shades of the notes">
      {KINDS.filter(([kind]) => kinds.has(kind)).map(([kind, word]) => (
        <span key={kind}>
          <i class={`sample ${kind}`} /> {word}
        </span>
      ))}
    </li>
  );
}

function SurpriseScale() {
  return (
    <li class="legend" aria-label="Colours of the notes">
      <span>
        expected <i class="scale" /> surprising
      </span>
    </li>
  );
}
