// Builds the page that needs no server into the Python package; `seqgen export --web` adds a model to it.

import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { defineConfig, type Plugin } from "vite";
import { licences } from "../licences";

const here = (name: string) => fileURLToPath(new URL(name, import.meta.url));

/** Put the one WebAssembly file into the page compressed: many servers send it as it lies there. */
function compressedRuntime(): Plugin {
  return {
    name: "compressed-runtime",
    generateBundle(_, bundle) {
      for (const [name, file] of Object.entries(bundle)) {
        if (file.type !== "asset" || !name.endsWith(".wasm")) continue;
        delete bundle[name];
        const source = gzipSync(file.source, { level: 9 });
        this.emitFile({ type: "asset", fileName: "runtime.bin", source });
      }
    },
  };
}

export default defineConfig({
  root: here("."),
  base: "./",
  plugins: [licences({ "onnxruntime-web": "web/onnxruntime-licence.txt" })],
  resolve: {
    alias: [{ find: /^\.{1,2}\/api\/(client|events)$/, replacement: here("./$1.ts") }],
  },
  worker: { format: "es", plugins: () => [compressedRuntime()] },
  build: {
    outDir: here("../../seqgen/export/page"),
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
});
