// Starts the page that needs no server.

import { render } from "preact";
import "../src/styles/colours.css";
import "../src/styles/base.css";
import "../src/styles/layout.css";
import "../src/styles/roll.css";
import "../src/styles/panels.css";
import "./page.css";
import { listenToKeys } from "../src/keys";
import { begin } from "../src/project/actions";
import { say } from "../src/project/notices";
import { applyTheme } from "../src/views/theme";
import { App } from "./app";
import { finish, takeTokens } from "./client";
import { load, manifest, trouble, troubleWithBrowser } from "./machine";
import type { FromWorker } from "./messages";

const place = document.getElementById("app") as HTMLElement;
place.replaceChildren();
applyTheme();
trouble.value = troubleWithBrowser();
render(<App />, place);
if (!trouble.value) void start();

async function start(): Promise<void> {
  try {
    await load(take);
  } catch (error) {
    trouble.value = error instanceof Error ? error.message : String(error);
    return;
  }
  document.title = manifest.name;
  await begin(manifest.name);
  listenToKeys();
}

function take(message: FromWorker): void {
  if (message.kind === "tokens") takeTokens(message.tokens);
  else if (message.kind === "end") finish(message.id, { status: "done" }, message.logLikelihood);
  else if (message.kind === "failed") {
    if (message.ids.length === 0)
      trouble.value = `The model could not be loaded: ${message.message}`;
    else say("error", `Writing failed: ${message.message}`);
    for (const id of message.ids) finish(id, { status: "failed", message: message.message });
  }
}
