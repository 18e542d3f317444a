// Playing with the model: devices, tempo, whose turn it is, and how long it took to answer.

import { chooseOutput, findDevices, inputs, octave, outputs } from "../live/devices";
import {
  barsEach,
  beat,
  keepPlayed,
  played,
  start,
  stop,
  type Turn,
  tempo,
  timings,
  turn,
} from "../live/duet";
import { attempt } from "../project/notices";
import { pitchName } from "../project/piece";
import { mayLeave } from "../roll/draft";

const WORDS: Record<Turn, string> = {
  none: "",
  counting: "Counting in",
  yours: "Your turn",
  thinking: "Your turn",
  answer: "It answers",
};

export function Live() {
  const isOn = turn.value !== "none";
  return (
    <details class="live settings">
      <summary>Play with it</summary>
      <p class="help">
        You play some bars, and the model answers at the bar line. Play a MIDI keyboard, or the keys
        A to P, with W E T Y U O as the black ones; Z and X change the octave.
      </p>
      <div class="amounts">
        <Amount label="Tempo" from={tempo} minimum={40} maximum={220} disabled={isOn} />
        <Amount label="Bars each" from={barsEach} minimum={1} maximum={8} disabled={isOn} />
        <label>
          <span>Key A is</span>
          <output>{pitchName(octave.value)}</output>
        </label>
      </div>
      <Devices />
      <div class="write-row">
        <button
          type="button"
          class={isOn ? "large" : "primary large"}
          onClick={() => (isOn ? stop() : void attempt(start))}
        >
          {isOn ? "Stop" : "Start playing"}
        </button>
      </div>
      {isOn && (
        <p class={`turn ${turn.value}`} role="status">
          <strong>{WORDS[turn.value]}</strong> <Beats />
        </p>
      )}
      {played.value && (
        <button type="button" onClick={() => mayLeave() && void keepPlayed()}>
          Keep what was played
        </button>
      )}
      {timings.value && (
        <p class="help">
          The first note of the answer came {timings.value.first.toFixed(0)} ms after your last bar
          was told to the model, all of it after {timings.value.all.toFixed(0)} ms.
        </p>
      )}
    </details>
  );
}

function Beats() {
  return (
    <span class="beats" aria-hidden="true">
      {[1, 2, 3, 4].map((number) => (
        <i key={number} class={number === beat.value ? "now" : ""} />
      ))}
    </span>
  );
}

interface AmountProps {
  label: string;
  from: { value: number };
  minimum: number;
  maximum: number;
  disabled: boolean;
}

function Amount({ label, from, minimum, maximum, disabled }: AmountProps) {
  return (
    <label>
      <span>{label}</span>
      <input
        type="number"
        min={minimum}
        max={maximum}
        value={from.value}
        disabled={disabled}
        onChange={(event) => {
          const number = Math.round(event.currentTarget.valueAsNumber || minimum);
          from.value = Math.max(minimum, Math.min(maximum, number));
        }}
      />
    </label>
  );
}

function Devices() {
  const found = inputs.value.length + outputs.value.length > 0;
  if (!found) {
    return (
      <button type="button" onClick={() => void findDevices()}>
        Find MIDI devices
      </button>
    );
  }
  return (
    <div class="devices">
      <p class="help">
        {inputs.value.length > 0
          ? `Listening to ${inputs.value.map((input) => input.name).join(", ")}.`
          : "No MIDI keyboard is connected."}
      </p>
      <label class="setting-head">
        Sound through
        <select onChange={(event) => chooseOutput(event.currentTarget.value || null)}>
          <option value="">this computer</option>
          {outputs.value.map((output) => (
            <option key={output.id} value={output.id}>
              {output.name}
            </option>
          ))}
        </select>
      </label>
    </div>
  );
}
