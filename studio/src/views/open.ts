// Which dialogs are open.

import { signal } from "@preact/signals";

export const helpIsOpen = signal(false);
export const runIsOpen = signal(false);
/** The MIDI file that waits for an answer. */
export const broughtFile = signal<File | null>(null);
