// Sentences that stay until they are dismissed, and the banner of a lost server.

import { dismiss, notices } from "../project/notices";
import { connected } from "../project/store";
import { Icon } from "./icons";

const AT_ONCE = 4; // sentences; more of them are shown when somebody wants to read them

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
            <Sentences of={notice.sentences.slice(0, AT_ONCE)} />
            {notice.sentences.length > AT_ONCE && (
              <details>
                <summary>{notice.sentences.length - AT_ONCE} more</summary>
                <Sentences of={notice.sentences.slice(AT_ONCE)} />
              </details>
            )}
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

function Sentences({ of }: { of: readonly string[] }) {
  return (
    <>
      {of.map((sentence) => (
        <p key={sentence}>{sentence}</p>
      ))}
    </>
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
