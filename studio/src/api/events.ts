// What a project's server tells as it happens. After a lost connection: tries again, ever more slowly, for as long as the page is open.

import { eventsAddress } from "./client";
import type { Gone, Music, ProjectState, Version } from "./types";

const FIRST_DELAY = 500; // milliseconds
const LONGEST_DELAY = 8000;

export interface Listener {
  version(version: Version): void;
  music(music: Music): void;
  gone(gone: Gone): void;
  /** The name or the current version has changed, here or on another page. */
  project(state: ProjectState): void;
  /** Connected; `again` after a loss, when events may have been missed. */
  connected(again: boolean): void;
  lost(): void;
}

/** Listen until the returned function is called. */
export function listen(project: string, listener: Listener): () => void {
  let source: EventSource | null = null;
  let timer = 0;
  let delay = FIRST_DELAY;
  let wasLost = false;

  const connect = () => {
    source = new EventSource(eventsAddress(project));
    source.addEventListener("open", () => {
      delay = FIRST_DELAY;
      listener.connected(wasLost);
      wasLost = false;
    });
    source.addEventListener("error", () => {
      source?.close();
      wasLost = true;
      listener.lost();
      timer = window.setTimeout(connect, delay);
      delay = Math.min(delay * 2, LONGEST_DELAY);
    });
    source.addEventListener("version", (event) => listener.version(JSON.parse(event.data)));
    source.addEventListener("music", (event) => listener.music(JSON.parse(event.data)));
    source.addEventListener("gone", (event) => listener.gone(JSON.parse(event.data)));
    source.addEventListener("project", (event) => listener.project(JSON.parse(event.data)));
  };
  connect();
  return () => {
    window.clearTimeout(timer);
    source?.close();
  };
}
