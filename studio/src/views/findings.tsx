// What was asked for and what came, measured by the server on the piece itself.

import type { Finding, Version } from "../api/types";
import { run } from "../project/store";
import { asks } from "../project/wishes";

/** Whether a version was asked to be something, beyond what it keeps by itself. */
export function wasAsked({ request }: Version): boolean {
  if (!request) return false;
  return asks(request.asked) || request.metre != null || request.tempo != null;
}

/** What is told of a version: all where something was asked, otherwise only what is not as before. */
export function told(version: Version): readonly Finding[] {
  if (wasAsked(version)) return version.findings;
  return version.findings.filter((finding) => finding.met < 1);
}

/** What was asked for, with the names of its choices: "as before" where it was kept by itself. */
export function askedName(version: Version, { what, asked }: Finding): string {
  const setting = run.value?.settings.find(({ name }) => name === what);
  if (!setting) return asked;
  const labelOf = (value: string) =>
    setting.choices.find((choice) => choice.value === value)?.label ?? value;
  const words = asked.split(setting.separator).map(labelOf).join("; ");
  return version.request?.asked[what] === undefined ? `as before: ${words}` : words;
}

/** One mark for each thing that was asked for. */
export function Findings({ version }: { version: Version }) {
  return (
    <>
      {told(version).map((finding) => (
        <span
          key={finding.what}
          class={`finding ${finding.met >= 1 ? "met" : ""}`}
          title={`${wasAsked(version) ? "Asked for: " : ""}${askedName(version, finding)}. Came: ${finding.came}.`}
        >
          {wasAsked(version) ? mark(finding.met) : "other"} {finding.what}
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
