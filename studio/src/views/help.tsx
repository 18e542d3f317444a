// All keys, and a few words on how one works here.

import { hasServer } from "../api/client";
import { KEYS, type Key } from "../keys";
import { Dialog } from "./dialog";
import { helpIsOpen } from "./open";

const GROUPS: readonly Key["group"][] = ["Playing", "Writing", "Looking", "Editing notes", "Files"];

export function Help() {
  if (!helpIsOpen.value) return null;
  const groups = GROUPS.filter((group) => KEYS.some((key) => key.group === group));
  return (
    <Dialog
      title="Keys and help"
      onClose={() => {
        helpIsOpen.value = false;
      }}
    >
      <p>
        Press Play: where there is no music yet, the model begins, and you hear it while it writes.
        Click a bar line in the ruler to hear other ways to go on from there; keep the one you like.
        Drag over bars to select them, then loop{hasServer ? ", rewrite or vary" : ""} them. Every
        version stays in the tree, so nothing is lost.
      </p>
      <div class="keys">
        {groups.map((group) => (
          <section key={group}>
            <h3>{group}</h3>
            <dl>
              {KEYS.filter((key) => key.group === group).map(({ keys, does }) => (
                <div key={`${keys} ${does}`}>
                  <dt>
                    {keys.split(" or ").map((name, index) => (
                      <>
                        {index > 0 && " or "}
                        <kbd>{name}</kbd>
                      </>
                    ))}
                  </dt>
                  <dd>{does}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
      <p>
        <a href="assets/licences.txt" target="_blank" rel="noreferrer">
          Licences of the software in this page
        </a>
      </p>
    </Dialog>
  );
}
