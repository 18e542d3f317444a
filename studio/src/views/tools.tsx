// Buttons that both pages have at the top: undo and redo, and the help.

import { Icon } from "./icons";
import { helpIsOpen } from "./open";

interface UndoProps {
  canUndo: boolean;
  canRedo: boolean;
  undo: () => void;
  redo: () => void;
}

export function UndoButtons({ canUndo, canRedo, undo, redo }: UndoProps) {
  return (
    <>
      <button
        type="button"
        class="quiet icon"
        aria-label="Undo"
        title="Undo (Ctrl+Z)"
        disabled={!canUndo}
        onClick={undo}
      >
        <Icon name="undo" />
      </button>
      <button
        type="button"
        class="quiet icon"
        aria-label="Redo"
        title="Redo (Ctrl+Shift+Z)"
        disabled={!canRedo}
        onClick={redo}
      >
        <Icon name="redo" />
      </button>
    </>
  );
}

export function HelpButton() {
  return (
    <button
      type="button"
      class="quiet icon"
      aria-label="Keys and help"
      title="Keys and help (?)"
      onClick={() => {
        helpIsOpen.value = true;
      }}
    >
      ?
    </button>
  );
}
