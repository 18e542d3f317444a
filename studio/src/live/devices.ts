// What is played on: the computer's keys, or MIDI keyboards; and MIDI outputs to play through.

import { signal } from "@preact/signals";
import { say } from "../project/notices";
import { playThrough } from "../sound/output";
import { MidiVoices } from "./midi-voices";

export interface Stroke {
  pitch: number;
  velocity: number; // 0: the key is let go
}

const KEYS = "awsedftgyhujkolp"; // from C on, white and black
const KEY_VELOCITY = 90;
const LOWEST_C = 24;
const HIGHEST_C = 96;

export const inputs = signal<readonly MIDIInput[]>([]);
export const outputs = signal<readonly MIDIOutput[]>([]);
export const octave = signal(60); // the pitch of the key A
/** The computer's keys play notes instead of what they do otherwise. */
export const keysPlay = signal(false);

/** Ask the browser for MIDI devices, and watch them come and go. */
export async function findDevices(): Promise<void> {
  if (!navigator.requestMIDIAccess) {
    say("error", "This browser has no Web MIDI: use Chrome, Edge or Firefox, or play on the keys.");
    return;
  }
  try {
    const access = await navigator.requestMIDIAccess();
    const list = () => {
      inputs.value = [...access.inputs.values()];
      outputs.value = [...access.outputs.values()];
    };
    list();
    access.addEventListener("statechange", list);
    if (inputs.value.length + outputs.value.length === 0) {
      say("news", "No MIDI device is connected; one that you connect now is found by itself.");
    }
  } catch {
    say("error", "The browser does not allow MIDI: allow it for this page, and try again.");
  }
}

/** Play everything through a MIDI output; null: through the loudspeakers. */
export function chooseOutput(id: string | null): void {
  const output = outputs.value.find((candidate) => candidate.id === id);
  playThrough(output ? new MidiVoices(output) : null);
}

/** Tell every key until the returned function is called. */
export function listen(tell: (stroke: Stroke) => void): () => void {
  const message = (event: Event) => {
    const [status = 0, pitch = 0, velocity = 0] = (event as MIDIMessageEvent).data ?? [];
    const kind = status & 0xf0;
    if (kind === 0x90) tell({ pitch, velocity });
    else if (kind === 0x80) tell({ pitch, velocity: 0 });
  };
  const heard = inputs.value;
  for (const input of heard) input.addEventListener("midimessage", message);
  const down = (event: KeyboardEvent) => key(event, KEY_VELOCITY, tell);
  const up = (event: KeyboardEvent) => key(event, 0, tell);
  keysPlay.value = true;
  window.addEventListener("keydown", down);
  window.addEventListener("keyup", up);
  return () => {
    for (const input of heard) input.removeEventListener("midimessage", message);
    keysPlay.value = false;
    window.removeEventListener("keydown", down);
    window.removeEventListener("keyup", up);
  };
}

function key(event: KeyboardEvent, velocity: number, tell: (stroke: Stroke) => void): void {
  const isTyping = (event.target as HTMLElement).matches("input:not([type=range]), select");
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || isTyping) return;
  const name = event.key.toLowerCase();
  if (velocity > 0 && (name === "z" || name === "x")) {
    const moved = octave.value + (name === "z" ? -12 : 12);
    octave.value = Math.max(LOWEST_C, Math.min(HIGHEST_C, moved));
  }
  const place = KEYS.indexOf(name);
  if (name.length === 1 && place >= 0) tell({ pitch: octave.value + place, velocity });
}
