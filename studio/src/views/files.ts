// Files from and to this computer: dropped on the page or chosen, opened or brought in.

import { signal } from "@preact/signals";
import { open } from "../project/actions";
import { say } from "../project/notices";
import { broughtFile } from "./open";

export const isOver = signal(false);

/** Take in a file: a project is opened, everything else is offered as a MIDI file to the server. */
export function take(file: File): void {
  if (file.name.toLowerCase().endsWith(".seqgen")) void open(file);
  else broughtFile.value = file;
}

export function choose(accept: string): void {
  const input = document.createElement("input");
  input.type = "file";
  input.accept = accept;
  input.addEventListener("change", () => {
    const file = input.files?.[0];
    if (file) take(file);
  });
  input.click();
}

export const chooseMidi = () => choose(".mid,.midi,.kar,audio/midi");
export const chooseProject = () => choose(".seqgen");

export const dropTarget = {
  onDragOver(event: DragEvent) {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    isOver.value = true;
  },
  onDragLeave(event: DragEvent) {
    if (!event.relatedTarget) isOver.value = false;
  },
  onDrop(event: DragEvent) {
    event.preventDefault();
    isOver.value = false;
    const files = [...(event.dataTransfer?.files ?? [])];
    if (files.length > 1) say("error", "Drop one file at a time.");
    else if (files[0]) take(files[0]);
  },
};
