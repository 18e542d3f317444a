// Builds the page of the studio into the Python package.

import { defineConfig } from "vite";
import { licences } from "./licences";

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
