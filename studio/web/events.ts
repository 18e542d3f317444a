// What happens in the page, told as a server would. Stands in for src/api/events.ts.

import type { Listener } from "../src/api/events";

let listening: Listener | null = null;

export function listen(_: string, listener: Listener): () => void {
  listening = listener;
  listener.connected(false);
  return () => {
    listening = null;
  };
}

type What = "version" | "music" | "gone";

export function tell<W extends What>(what: W, content: Parameters<Listener[W]>[0]): void {
  listening?.[what](content as never);
}
