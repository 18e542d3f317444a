// Sentences that stay until they are dismissed, and the banner of a lost server.

import { dismiss, notices } from "../project/notices";
import { connected } from "../project/store";
import { Icon } from "./icons";

export function Notices() {
  return (
    <div class="notices" role="log" aria-live="polite" aria-label="Messages">
      {notices.value.map((notice) => (
        <div
          key={notice.id}
          class={`notice ${notice.tone}`}
          role={notice.tone === "error" ? "alert" : undefined}
        >
          <div>
            {notice.sentences.map((sentence) => (
              <p key={sentence}>{sentence}</p>
            ))}
          </div>
          <button
            type="button"
            class="quiet icon"
            aria-label="Dismiss"
            onClick={() => dismiss(notice.id)}
          >
            <Icon name="close" />
          </button>
        </div>
      ))}
    </div>
  );
}

export function Connection() {
  if (connected.value) return null;
  return (
    <p class="banner" role="alert">
      The server is not answering. What you see stays; the page goes on as soon as it is back.
    </p>
  );
}
