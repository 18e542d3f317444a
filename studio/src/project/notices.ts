// Sentences for the person at the page, shown until dismissed (views/notices.tsx).

import { signal } from "@preact/signals";

export interface Notice {
  id: number;
  tone: "error" | "news";
  sentences: string[];
}

export const notices = signal<Notice[]>([]);
let count = 0;

export function say(tone: Notice["tone"], ...sentences: string[]): void {
  const same = JSON.stringify(sentences);
  if (notices.value.some((notice) => JSON.stringify(notice.sentences) === same)) return;
  count += 1;
  notices.value = [...notices.value, { id: count, tone, sentences }];
}

export function dismiss(id: number): void {
  notices.value = notices.value.filter((notice) => notice.id !== id);
}

/** Run `act`; what goes wrong becomes a notice. */
export async function attempt<T>(act: () => Promise<T>): Promise<T | undefined> {
  try {
    return await act();
  } catch (error) {
    say("error", error instanceof Error ? error.message : String(error));
    return undefined;
  }
}
