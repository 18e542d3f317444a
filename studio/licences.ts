// The licences of the software that a built page contains, as a file beside it.

import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Plugin } from "vite";

const IN_EVERY_PAGE = [
  "preact",
  "@preact/signals",
  "@preact/signals-core",
  "spessasynth_lib",
  "spessasynth_core",
];

const HERE = fileURLToPath(new URL(".", import.meta.url));

/** Write assets/licences.txt; `others` are more packages in the page, with the file of their licence. */
export function licences(others: Record<string, string> = {}): Plugin {
  return {
    name: "licences",
    generateBundle() {
      const files = { ...Object.fromEntries(IN_EVERY_PAGE.map(ofPackage)), ...others };
      const texts = Object.entries(files).map(
        ([name, file]) => `${name}\n\n${readFileSync(`${HERE}${file}`, "utf8")}`,
      );
      const source = texts.join(`\n${"-".repeat(80)}\n\n`);
      this.emitFile({ type: "asset", fileName: "assets/licences.txt", source });
    },
  };
}

function ofPackage(name: string): [string, string] {
  const folder = `node_modules/${name}`;
  const file = readdirSync(HERE + folder).find((entry) => /^licen[cs]e/i.test(entry));
  if (!file) throw new Error(`${folder} has no licence file`);
  return [name, `${folder}/${file}`];
}
