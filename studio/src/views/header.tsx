// The line at the top: the project's name, its files, undo and redo, and the page's own switches.

import { close, download, redo, rename, undo } from "../project/actions";
import { canRedo, canUndo } from "../project/history";
import { project, run, shown } from "../project/store";
import { canRedoEdit, isChanged, isEditing, mayLeave, redoEdit, undoEdit } from "../roll/draft";
import { chooseMidi, chooseProject } from "./files";
import { runIsOpen } from "./open";
import { loadStart } from "./start";
import { ThemeButton } from "./theme";
import { HelpButton, UndoButtons } from "./tools";

export function Header() {
  return (
    <header class="header">
      <button
        type="button"
        class="quiet wordmark"
        onClick={goHome}
        aria-label="seqgen studio, start"
      >
        seqgen
      </button>
      {project.value && <Names />}
      <span class="gap" />
      {project.value && <ProjectButtons />}
      <ThemeButton />
      <HelpButton />
    </header>
  );
}

function goHome(): void {
  if (!mayLeave()) return;
  close();
  void loadStart();
}

function Names() {
  const name = project.value?.name ?? "";
  return (
    <>
      <input
        class="project-name"
        aria-label="Name of the project"
        value={name}
        maxLength={120}
        onChange={(event) => {
          const text = event.currentTarget.value.trim();
          if (text) void rename(text);
          else event.currentTarget.value = name;
        }}
      />
      {run.value && (
        <button
          type="button"
          class="quiet run-name"
          title="About the model"
          onClick={() => {
            runIsOpen.value = true;
          }}
        >
          {run.value.name}
        </button>
      )}
    </>
  );
}

function ProjectButtons() {
  const hasPiece = shown.value !== undefined;
  return (
    <>
      <UndoButtons
        canUndo={isEditing.value ? isChanged.value : canUndo.value}
        canRedo={isEditing.value ? canRedoEdit.value : canRedo.value}
        undo={() => (isEditing.value ? undoEdit() : void undo())}
        redo={() => (isEditing.value ? redoEdit() : void redo())}
      />
      <details class="menu">
        <summary>Files</summary>
        <ul onClick={(event) => event.currentTarget.closest("details")?.removeAttribute("open")}>
          <Entry label="Save the project" keys="Ctrl+S" onClick={() => void download("project")} />
          <Entry label="Open a project…" keys="Ctrl+O" onClick={chooseProject} />
          <Entry label="Bring a MIDI file…" onClick={chooseMidi} />
          <Entry
            label="Download as MIDI"
            disabled={!hasPiece}
            onClick={() => void download("midi")}
          />
          <Entry
            label="Download as sound (WAV)"
            disabled={!hasPiece}
            onClick={() => void download("wav")}
          />
        </ul>
      </details>
    </>
  );
}

interface EntryProps {
  label: string;
  keys?: string;
  disabled?: boolean;
  onClick: () => void;
}

function Entry({ label, keys, disabled, onClick }: EntryProps) {
  return (
    <li>
      <button type="button" class="quiet" disabled={disabled} onClick={onClick}>
        {label} {keys && <kbd>{keys}</kbd>}
      </button>
    </li>
  );
}
