// What was asked for and what came, measured by the server on the piece itself.

import type { Finding } from "../api/types";

/** One mark for each thing that was asked for. */
export function Findings({ findings }: { findings: readonly Finding[] }) {
  return (
    <>
      {findings.map((finding) => (
        <span
          key={finding.what}
          class={`finding ${finding.met >= 1 ? "met" : ""}`}
          title={`Asked for: ${finding.asked}. Came: ${finding.came}.`}
        >
          {mark(finding.met)} {finding.what}
          {finding.met < 1 && <span class="unseen"> not met: {finding.came}</span>}
        </span>
      ))}
    </>
  );
}

function mark(met: number): string {
  if (met >= 1) return "✓";
  return met > 0 ? `${Math.round(met * 100)} %` : "✗";
}

/** "✓ as asked", or how many of all were. */
export function countMet(findings: readonly Finding[]): string {
  const met = findings.filter((finding) => finding.met >= 1).length;
  return met === findings.length ? "✓ as asked" : `${met} of ${findings.length} as asked`;
}

/** In words, what came of one thing that was asked for. */
export function answer({ asked, came, met }: Finding): string {
  if (met >= 1) return "✓ as asked";
  if (met <= 0) return `✗ ${came}`;
  const share = `${Math.round(met * 100)} % of the bars`;
  return came === asked ? share : `${came} (${share})`;
}
