// Builds the page into the Python package, together with the licences of what it contains.

import { readdirSync, readFileSync } from "node:fs";
import { defineConfig, type Plugin } from "vite";

const IN_THE_PAGE = [
  "preact",
  "@preact/signals",
  "@preact/signals-core",
  "spessasynth_lib",
  "spessasynth_core",
];

function licences(): Plugin {
  return {
    name: "licences",
    generateBundle() {
      const texts = IN_THE_PAGE.map((name) => {
        const folder = `node_modules/${name}`;
        const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
        if (!file) throw new Error(`${folder} has no licence file`);
        return `${name}\n\n${readFileSync(`${folder}/${file}`, "utf8")}`;
      });
      const source = texts.join(`\n${"-".repeat(80)}\n\n`);
      this.emitFile({ type: "asset", fileName: "assets/licences.txt", source });
    },
  };
}

export default defineConfig({
  plugins: [licences()],
  build: {
    outDir: "../seqgen/serving/page",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0, // the Content-Security-Policy allows no data: scripts
    modulePreload: { polyfill: false },
  },
  server: { proxy: { "/api": "http://127.0.0.1:8000" } },
});
