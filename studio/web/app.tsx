// The page that needs no server: the studio's roll, versions and sound, with the model in the browser.

import { download, redo, undo } from "../src/project/actions";
import { canRedo, canUndo } from "../src/project/history";
import { isWriting, project, shown } from "../src/project/store";
import { asksSomething } from "../src/project/wishes";
import { PianoRoll } from "../src/roll/roll";
import { Candidates } from "../src/views/candidates";
import { Compose } from "../src/views/compose";
import { Dialog } from "../src/views/dialog";
import { Help } from "../src/views/help";
import { Notices } from "../src/views/notices";
import { runIsOpen } from "../src/views/open";
import { ThemeButton } from "../src/views/theme";
import { HelpButton, UndoButtons } from "../src/views/tools";
import { Tracks } from "../src/views/tracks";
import { Transport } from "../src/views/transport";
import { VersionTree } from "../src/views/tree";
import { isReady, manifest, speed, trouble } from "./machine";

export function App() {
  return (
    <div class="app">
      <Header />
      {trouble.value ? <Trouble /> : project.value && <Page />}
      <Notices />
      <Help />
      <About />
    </div>
  );
}

function Trouble() {
  return (
    <main class="trouble">
      <p role="alert">{trouble.value}</p>
    </main>
  );
}

function Page() {
  return (
    <main class="studio">
      <div class="stage">
        <Tracks />
        <PianoRoll />
        <Candidates />
      </div>
      <aside class="side" aria-label="Writing and versions">
        <Compose />
        {asksSomething.value && <Once />}
        <Speed />
        <VersionTree />
      </aside>
      <Transport />
    </main>
  );
}

function Header() {
  return (
    <header class="header">
      <span class="wordmark">seqgen</span>
      {project.value && (
        <button
          type="button"
          class="quiet run-name"
          title="About the model"
          onClick={() => {
            runIsOpen.value = true;
          }}
        >
          {manifest.name}
        </button>
      )}
      <span class="gap" />
      {project.value && !trouble.value && <Buttons />}
      <ThemeButton />
      <HelpButton />
    </header>
  );
}

function Buttons() {
  return (
    <>
      <UndoButtons
        canUndo={canUndo.value}
        canRedo={canRedo.value}
        undo={() => void undo()}
        redo={() => void redo()}
      />
      <button
        type="button"
        id="download"
        disabled={!shown.value || shown.value.n_notes === 0}
        onClick={() => void download("midi")}
      >
        Download MIDI
      </button>
    </>
  );
}

function Once() {
  return (
    <p class="speed">
      Each version is drawn once, and nothing measures whether it is what you asked for. The studio
      and the command line draw four and keep what fits best, and can follow more closely.
    </p>
  );
}

/** How fast this browser writes, measured with the last request; and the seed that writes the same again. */
function Speed() {
  const { tokens, seconds } = speed.value;
  const seed = shown.value?.seed;
  const isReading = isWriting.value && shown.value?.parent != null && seconds === 0;
  return (
    <p class="speed" id="speed" data-ready={isReady.value} data-shown={shown.value?.id}>
      {!isReady.value && "Loading the model…"}
      {isReading && "Reading the bars before…"}
      {seconds > 0 && `${Math.round(tokens / seconds).toLocaleString()} tokens per second`}
      {seed != null && (
        <>
          {(isReading || seconds > 0) && " · "}seed {seed}
        </>
      )}
    </p>
  );
}

function About() {
  if (!runIsOpen.value || !project.value) return null;
  return (
    <Dialog
      title={manifest.name}
      onClose={() => {
        runIsOpen.value = false;
      }}
    >
      {manifest.about.map((sentence) => (
        <p key={sentence}>{sentence}</p>
      ))}
      <p>
        The model runs in this browser; nothing is sent anywhere. What you write is gone when the
        page is closed: download it as MIDI.
      </p>
    </Dialog>
  );
}
