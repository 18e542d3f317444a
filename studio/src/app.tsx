// The page as a whole: the start, or a project with its piano roll in the middle.

import { computed } from "@preact/signals";
import { project } from "./project/store";
import { PianoRoll } from "./roll/roll";
import { Candidates } from "./views/candidates";
import { Compose } from "./views/compose";
import { dropTarget, isOver } from "./views/files";
import { Header } from "./views/header";
import { Help } from "./views/help";
import { Live } from "./views/live";
import { Connection, Notices } from "./views/notices";
import { RunDialog } from "./views/run";
import { Start } from "./views/start";
import { Tracks } from "./views/tracks";
import { Transport } from "./views/transport";
import { VersionTree } from "./views/tree";
import { UploadDialog } from "./views/upload";

const isOpen = computed(() => project.value !== null);

export function App() {
  return (
    <div class={`app ${isOver.value ? "over" : ""}`} {...dropTarget}>
      <Header />
      <Connection />
      {isOpen.value ? <Studio /> : <Start />}
      <Notices />
      <Help />
      <RunDialog />
      <UploadDialog />
    </div>
  );
}

function Studio() {
  return (
    <main class="studio">
      <div class="stage">
        <Tracks />
        <PianoRoll />
        <Candidates />
      </div>
      <aside class="side" aria-label="Writing and versions">
        <Compose />
        <Live />
        <VersionTree />
      </aside>
      <Transport />
    </main>
  );
}
